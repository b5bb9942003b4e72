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
from segdsl.export.certify.interface import interface_of
from segdsl.export.certify.trial_images import Trials
from segdsl.export.convert.deployable import Shipped
from segdsl.export.convert.rewrites import express
from segdsl.inference.models import model_info, openvino_runtime
from segdsl.inference.models.onnx_model import open_session, seal_of
from segdsl.inference.preprocess import Image, Maps, Mask, raw
from segdsl.ir.program import Program
from segdsl.lower.inference_rewrites import for_inference

# The first opset with layer normalization; a later one would exclude older runtimes.
OPSET = 17
LOGITS = "logits"


def write_onnx(
    program: Program, model: nn.Module, path: Path, trials: Trials, origin: Mapping[str, str]
) -> dict[str, Any]:
    """Write the ONNX model of the program, with the same tensor names as the OpenVINO model.

    The file contains its own certificate and the ``provenance``. Returns the certificate row of the file. Raises
    SegError (`onnx-failed`, `export-differs`).
    """
    form = program.export.onnx
    assert form is not None
    shipped = Shipped(model, program, form)  # type: ignore[arg-type]
    express(shipped.model, program.graph.shapes(), program.graph.env, free=form.size == "dynamic")
    _write(program, shipped, path)
    result = _certificate(program, model, path, trials)
    _describe(program, path, {**origin, model_info.CERTIFICATE: model_info.as_text(result)})
    return {**result["rows"][ONNX], "interface": result["interface"]}


def _write(program: Program, shipped: Shipped, path: Path) -> None:
    size = program.data.input_size
    image = torch.zeros(1, program.channels, size.height, size.width)
    dynamic = {2: "height", 3: "width"} if shipped.form.size == "dynamic" else {}
    outputs = [model_info.OUTPUT, LOGITS]
    axes = {model_info.INPUT: dynamic, LOGITS: dynamic}
    # Class ids (N, H, W) have no class axis.
    axes[model_info.OUTPUT] = {1: "height", 2: "width"} if dynamic and shipped.form.prediction == "hard" else dynamic
    try:
        with openvino_runtime.quiet(), torch.no_grad():
            torch.onnx.export(
                shipped, (image,), str(path), input_names=[model_info.INPUT], output_names=outputs,
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


def _certificate(program: Program, model: Any, path: Path, trials: Trials) -> dict[str, Any]:
    session = open_session(path)
    form = program.export.onnx
    assert form is not None

    def look(normalized: Any, image: Image) -> tuple[Maps, Mask]:
        model_input = raw(image, program.data.input_size) if form.normalize else normalized
        results: Any = session.run([model_info.OUTPUT, LOGITS], {model_info.INPUT: model_input})
        output, logits = results
        ids = output[0] if form.prediction == "hard" else output[0].argmax(0)
        return logits[0], ids.astype(np.uint8)

    rows = certificate.measure(program, for_inference(model, {}), {ONNX: look}, trials)
    extra = {"interface": interface_of(program, form, False)}
    result = certificate.certificate_of(ONNX, rows, trials, program.export.tolerance, extra)
    certificate.check(result, program.export.tolerance)
    return result


def _describe(program: Program, path: Path, origin: Mapping[str, str]) -> None:
    """Remove the logits output, which only the comparison needs, and write the metadata."""
    import onnx

    model = onnx.load(str(path))
    outputs = [output for output in model.graph.output if output.name != LOGITS]
    del model.graph.output[:]
    model.graph.output.extend(outputs)
    # Our own keys only. Without those of openvino-model-api there is no empty channel either, which that library needs.
    entries = {
        key: value for key, value in model_info.describe(program, ONNX).items() if key.startswith(model_info.OURS)
    }
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    # Hashed as it was saved, without metadata; the digest itself then goes into the metadata.
    digest = {model_info.DIGEST: seal_of(path)}
    onnx.helper.set_model_props(model, {**entries, model_info.SHIFT: "0", **origin, **digest})
    onnx.save(model, str(path))
