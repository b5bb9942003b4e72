"""Exporters: the forms in which a trained model is shipped. Each word has its realisation in ``segdsl/export``."""

from __future__ import annotations

from typing import Literal

from segdsl.ir.program import Exporter


class OpenVINO(Exporter):
    """An OpenVINO model (`.xml` and `.bin`) of fixed input size that openvino-model-api loads, softmax included."""

    precision: Literal["fp32", "fp16"] = "fp32"
    """How weights are stored: as trained, or in half the bytes; either way they compute as the device prefers."""
