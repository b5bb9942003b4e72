"""Exporters: the forms in which a trained model is shipped. Each word has its realisation in ``segdsl/export``."""

from __future__ import annotations

from typing import Literal

from segdsl.ir.program import Exporter, OnnxExporter, PositiveInt


class OpenVINO(Exporter):
    """An OpenVINO model (`.xml` and `.bin`) that openvino-model-api loads."""

    precision: Literal["fp32", "fp16", "int8"] = "fp32"
    """How weights are stored: as trained, in half the bytes (either way they compute as the device prefers), or in 8
    bits, which most layers then compute in."""
    calibration: PositiveInt = 64
    """Training images that the ranges of 8-bit layers are taken from, evenly chosen."""


class ONNX(OnnxExporter):
    """An ONNX model of opset 17, in single precision, for ONNX Runtime and whatever else reads it."""
