"""Exporter words: the file formats of an exported model.

``segdsl/export`` implements them.
"""

from __future__ import annotations

from typing import Literal

from segdsl.ir.program import Exporter, OnnxExporter, PositiveInt


class OpenVINO(Exporter):
    """OpenVINO model (`.xml` and `.bin`) that openvino-model-api can load."""

    aliases = ("ir openvino_ir",)

    precision: Literal["fp32", "fp16", "int8"] = "fp32"
    """Storage of the weights. `fp32` stores them as trained and `fp16` in half the bytes; either way the device chooses
    the precision it computes in. `int8` stores 8 bits per weight, and most layers also compute in 8 bits."""
    calibration: PositiveInt = 64
    """Number of training images, evenly spaced over the subset, that set the value ranges of the 8-bit layers."""


class ONNX(OnnxExporter):
    """ONNX model of opset 17 in single precision, for ONNX Runtime and other ONNX tools."""
