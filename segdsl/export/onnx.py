"""From a trained model to an ONNX file, compared with torch in ONNX Runtime."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from segdsl.diagnostics import fail
from segdsl.export import certificate, contract, runtime
from segdsl.export.certificate import TORCH
from segdsl.export.expressed import express
from segdsl.export.material import Trials
from segdsl.export.pixels import Image, Maps, Mask, raw
from segdsl.export.shipped import Shipped
from segdsl.ir.program import Program
from segdsl.lower.inference import for_inference

OPSET = 17
"""The version of the operators: the first with layer normalisation."""
LOGITS = "logits"


def write_onnx(program: Program, model: nn.Module, path: Path, trials: Trials) -> dict[str, Any]:
    """Writes the ONNX model of the program, whose tensors are called as those of the OpenVINO model.

    Gives the row of the certificate. Raises SegError (`onnx-not-installed`, `onnx-failed`, `export-differs`).
    """
    for module in ("onnx", "onnxruntime"):
        if importlib.util.find_spec(module) is None:
            message = f"an ONNX model needs `{module}`, which is not installed"
            raise fail("onnx-not-installed", message, 'install it: `pip install "segdsl[onnx]"`')
    form = program.export.onnx
    assert form is not None
    shipped = Shipped(model, program, form)  # type: ignore[arg-type]
    express(shipped.model, program.graph.shapes(), program.graph.env, free=form.size == "dynamic")
    _write(program, shipped, path)
    row = _row(program, model, path, trials)
    _describe(program, path)
    return row


def _write(program: Program, shipped: Shipped, path: Path) -> None:
    size = program.data.input_size
    image = torch.zeros(1, program.channels, size.height, size.width)
    free = {2: "height", 3: "width"} if shipped.form.size == "dynamic" else {}
    outputs = [contract.OUTPUT, LOGITS]
    axes = {contract.INPUT: free, LOGITS: free}
    axes[contract.OUTPUT] = {1: "height", 2: "width"} if free and shipped.form.prediction == "hard" else free
    try:
        with runtime.quiet(), torch.no_grad():
            torch.onnx.export(
                shipped, (image,), str(path), input_names=[contract.INPUT], output_names=outputs,
                opset_version=OPSET, dynamic_axes=axes if free else None, dynamo=False,
            )  # fmt: skip
    except Exception as error:
        raise fail(
            "onnx-failed",
            f"torch {torch.__version__.partition('+')[0]} could not write `{program.graph.name}` as ONNX",
            "export it with `size = static`" if free else "the OpenVINO model works; leave `export.onnx` out",
        ) from error


def _row(program: Program, model: Any, path: Path, trials: Trials) -> dict[str, Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    form = program.export.onnx
    assert form is not None

    def look(normalized: Any, image: Image) -> tuple[Maps, Mask]:
        fed = raw(image, program.data.input_size) if form.normalize else normalized
        results: Any = session.run([contract.OUTPUT, LOGITS], {contract.INPUT: fed})
        said, logits = results
        ids = said[0] if form.prediction == "hard" else said[0].argmax(0)
        return logits[0], ids.astype(np.uint8)

    # The name of single precision: it is held to the same limits.
    rows = certificate.measure(program, for_inference(model, {}), {"fp32": look}, trials)
    tolerance = program.export.tolerance
    found = rows["fp32"].summary(rows[TORCH])
    certificate.check({"precision": "fp32", "rows": {"fp32": found}}, tolerance)
    return found


def _describe(program: Program, path: Path) -> None:
    """Takes the logits, which only the comparison needs, out of what the file gives, and writes down its program."""
    import onnx

    model = onnx.load(str(path))
    kept = [output for output in model.graph.output if output.name != LOGITS]
    del model.graph.output[:]
    model.graph.output.extend(kept)
    onnx.helper.set_model_props(
        model, {"segdsl_program": program.resolved, "segdsl_classes": contract.as_text(list(program.classes))}
    )
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
