"""From a trained model to an ONNX file, compared with torch in ONNX Runtime."""

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

OPSET = 17
"""The version of the operators: the first with layer normalisation."""
LOGITS = "logits"


def write_onnx(
    program: Program, model: nn.Module, path: Path, trials: Trials, origin: Mapping[str, str]
) -> dict[str, Any]:
    """Writes the ONNX model of the program, whose tensors are called as those of the OpenVINO model.

    It carries a certificate of its own, and ``origin``. Gives the row of it that tells of the file. Raises SegError
    (`onnx-failed`, `export-differs`).
    """
    form = program.export.onnx
    assert form is not None
    shipped = Shipped(model, program, form)  # type: ignore[arg-type]
    express(shipped.model, program.graph.shapes(), program.graph.env, free=form.size == "dynamic")
    _write(program, shipped, path)
    found = _certificate(program, model, path, trials)
    _describe(program, path, {**origin, model_info.CERTIFICATE: model_info.as_text(found)})
    return {**found["rows"][ONNX], "interface": found["interface"]}


def _write(program: Program, shipped: Shipped, path: Path) -> None:
    size = program.data.input_size
    image = torch.zeros(1, program.channels, size.height, size.width)
    free = {2: "height", 3: "width"} if shipped.form.size == "dynamic" else {}
    outputs = [model_info.OUTPUT, LOGITS]
    axes = {model_info.INPUT: free, LOGITS: free}
    axes[model_info.OUTPUT] = {1: "height", 2: "width"} if free and shipped.form.prediction == "hard" else free
    try:
        with openvino_runtime.quiet(), torch.no_grad():
            torch.onnx.export(
                shipped, (image,), str(path), input_names=[model_info.INPUT], output_names=outputs,
                opset_version=OPSET, dynamic_axes=axes if free else None, dynamo=False,
            )  # fmt: skip
    except OSError:
        raise
    except Exception as error:
        raise fail(
            "onnx-failed",
            f"torch {torch.__version__.partition('+')[0]} could not write `{program.graph.name}` as ONNX",
            "export it with `size = static`" if free else "the OpenVINO model works; leave `export.onnx` out",
        ) from error


def _certificate(program: Program, model: Any, path: Path, trials: Trials) -> dict[str, Any]:
    session = open_session(path)
    form = program.export.onnx
    assert form is not None

    def look(normalized: Any, image: Image) -> tuple[Maps, Mask]:
        fed = raw(image, program.data.input_size) if form.normalize else normalized
        results: Any = session.run([model_info.OUTPUT, LOGITS], {model_info.INPUT: fed})
        said, logits = results
        ids = said[0] if form.prediction == "hard" else said[0].argmax(0)
        return logits[0], ids.astype(np.uint8)

    rows = certificate.measure(program, for_inference(model, {}), {ONNX: look}, trials)
    extra = {"interface": interface_of(program, form, False)}
    found = certificate.certificate_of(ONNX, rows, trials, program.export.tolerance, extra)
    certificate.check(found, program.export.tolerance)
    return found


def _describe(program: Program, path: Path, origin: Mapping[str, str]) -> None:
    """Takes the logits, which only the comparison needs, out of what the file gives, and writes down where it is from.

    No empty channel stands before the first class (see :mod:`segdsl.inference.models.model_info`).
    """
    import onnx

    model = onnx.load(str(path))
    kept = [output for output in model.graph.output if output.name != LOGITS]
    del model.graph.output[:]
    model.graph.output.extend(kept)
    said = {key: value for key, value in model_info.describe(program, ONNX).items() if key.startswith(model_info.OURS)}
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    seal = {model_info.DIGEST: seal_of(path)}
    onnx.helper.set_model_props(model, {**said, model_info.SHIFT: "0", **origin, **seal})
    onnx.save(model, str(path))
