"""Activations: elementwise, except Softmax. All preserve the shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from segdsl.ir.graph import Op
from segdsl.ir.shape import Shape
from segdsl.ops import fit


class Elementwise(Op, abstract=True):
    """An op that accepts any shape and preserves it."""

    def infer_shape(self, shapes: Sequence[Shape], env: Mapping[str, int]) -> Shape:
        return shapes[0]


class ReLU(Elementwise):
    """max(x, 0)."""

    def get_output_sign(self) -> Literal["any", "nonnegative", "input"]:
        return "nonnegative"


class GELU(Elementwise):
    """x Φ(x) with the exact normal distribution function, not the tanh approximation (Hendrycks & Gimpel 2016)."""


class Sigmoid(Elementwise):
    """1 / (1 + exp(-x))."""

    def get_output_sign(self) -> Literal["any", "nonnegative", "input"]:
        return "nonnegative"


class SiLU(Elementwise):
    """x / (1 + exp(-x)), also called swish."""

    aliases = ("swish",)


class Identity(Elementwise):
    """Returns its input unchanged; a placeholder where a module is required."""

    def get_output_sign(self) -> Literal["any", "nonnegative", "input"]:
        return "input"


class Softmax(Op):
    """exp(x) divided by its sum. Preserves the shape."""

    over: Literal["space", "channels"] = "channels"
    """What sums to 1: the channels of each position, or the positions (pixels, tokens) of each channel."""

    def get_output_sign(self) -> Literal["any", "nonnegative", "input"]:
        return "nonnegative"

    def infer_shape(self, shapes: Sequence[Shape], env: Mapping[str, int]) -> Shape:
        fit.require_features("Softmax", shapes[0])
        return shapes[0]
