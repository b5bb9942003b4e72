"""Conversion of a trained model to ONNX, and its comparison with PyTorch in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from segdsl.diagnostics import fail
from segdsl.export.certify import certificate
from segdsl.export.certify.certificate import ONNX
from segdsl.export.certify.interface import describe_interface
from segdsl.export.certify.trial_images import TrialSet
from segdsl.export.convert.deployable import DeployableModel
from segdsl.export.convert.rewrites import rewrite_for_onnx
from segdsl.inference.models import model_info, openvino_runtime
from segdsl.inference.models.onnx_model import compute_onnx_digest, open_session
from segdsl.inference.preprocess import ClassMaps, Image, Mask, preprocess_raw
from segdsl.ir.program import Program
from segdsl.lower.inference_rewrites import optimize_for_inference

# The first opset with layer normalization; a later one would exclude older runtimes.
OPSET = 17
LOGITS_NAME = "logits"


def write_onnx(
    program: Program, model: nn.Module, path: Path, trials: TrialSet, provenance: Mapping[str, str]
) -> dict[str, Any]:
    """Write the ONNX model of the program, with the same tensor names as the OpenVINO model.

    The file contains its own certificate and the ``provenance``. Returns the certificate row of the file. Raises
    SegError (`onnx-failed`, `export-differs`).
    """
    form = program.export.onnx
    assert form is not None
    shipped = DeployableModel(model, program, form)  # type: ignore[arg-type]
    rewrite_for_onnx(
        shipped.model, program.graph.collect_shapes(), program.graph.env, has_dynamic_size=form.size == "dynamic"
    )
    _write_graph(program, shipped, path)
    result = _certify_file(program, model, path, trials)
    _write_metadata(program, path, {**provenance, model_info.CERTIFICATE_KEY: model_info.dump_json(result)})
    return {**result["rows"][ONNX], "interface": result["interface"]}


def _write_graph(program: Program, deployable: DeployableModel, path: Path) -> None:
    size = program.data.input_size
    image = torch.zeros(1, program.channels, size.height, size.width)
    dynamic = {2: "height", 3: "width"} if deployable.exporter.size == "dynamic" else {}
    outputs = [model_info.OUTPUT_NAME, LOGITS_NAME]
    axes = {model_info.INPUT_NAME: dynamic, LOGITS_NAME: dynamic}
    # Class ids (N, H, W) have no class axis.
    axes[model_info.OUTPUT_NAME] = (
        {1: "height", 2: "width"} if dynamic and deployable.exporter.prediction == "hard" else dynamic
    )
    try:
        with openvino_runtime.silence_libraries(), torch.no_grad():
            torch.onnx.export(
                deployable, (image,), str(path), input_names=[model_info.INPUT_NAME], output_names=outputs,
                opset_version=OPSET, dynamic_axes=axes if dynamic else None, dynamo=False,
            )  # fmt: skip
    except OSError:
        raise
    except Exception as error:
        # The exporter raises errors of many types, and its texts speak of its internals.
        raise fail(
            "onnx-failed",
            f"torch {torch.__version__.partition('+')[0]} could not convert `{program.graph.name}` to ONNX",
            "export it with `size = static`" if dynamic else "remove `export.onnx`; the export to OpenVINO works",
        ) from error


def _certify_file(program: Program, model: Any, path: Path, trials: TrialSet) -> dict[str, Any]:
    session = open_session(path)
    form = program.export.onnx
    assert form is not None

    def predict(normalized: Any, image: Image) -> tuple[ClassMaps, Mask]:
        model_input = preprocess_raw(image, program.data.input_size) if form.normalize else normalized
        results: Any = session.run([model_info.OUTPUT_NAME, LOGITS_NAME], {model_info.INPUT_NAME: model_input})
        output, logits = results
        ids = output[0] if form.prediction == "hard" else output[0].argmax(0)
        return logits[0], ids.astype(np.uint8)

    rows = certificate.measure_forms(program, optimize_for_inference(model, {}), {ONNX: predict}, trials)
    extra = {"interface": describe_interface(program, form, False)}
    result = certificate.build_certificate(ONNX, rows, trials, program.export.tolerance, extra)
    certificate.check_certificate(result, program.export.tolerance)
    return result


def _write_metadata(program: Program, path: Path, provenance: Mapping[str, str]) -> None:
    """Remove the logits output, which only the comparison needs, and write the metadata."""
    import onnx

    model = onnx.load(str(path))
    outputs = [output for output in model.graph.output if output.name != LOGITS_NAME]
    del model.graph.output[:]
    model.graph.output.extend(outputs)
    # Our own keys only. Without those of openvino-model-api there is no empty channel either, which that library needs.
    entries = {
        key: value
        for key, value in model_info.build_model_info(program, ONNX).items()
        if key.startswith(model_info.KEY_PREFIX)
    }
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    # Hashed as it was saved, without metadata; the digest itself then goes into the metadata.
    digest = {model_info.DIGEST_KEY: compute_onnx_digest(path)}
    onnx.helper.set_model_props(model, {**entries, model_info.OFFSET_KEY: "0", **provenance, **digest})
    onnx.save(model, str(path))
