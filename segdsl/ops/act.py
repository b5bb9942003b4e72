"""Activations: element by element, except Softmax. All keep the shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from segdsl.ir.graph import Op
from segdsl.ir.shape import Shape
from segdsl.ops import fit


class Elementwise(Op, abstract=True):
    """An op that keeps the shape of anything."""

    def infer(self, shapes: Sequence[Shape], env: Mapping[str, int]) -> Shape:
        return shapes[0]


class ReLU(Elementwise):
    """max(x, 0)."""


class GELU(Elementwise):
    """x Φ(x) with the exact normal distribution function, not the tanh approximation (Hendrycks & Gimpel 2016)."""


class Sigmoid(Elementwise):
    """1 / (1 + exp(-x))."""


class SiLU(Elementwise):
    """x / (1 + exp(-x)), also called swish."""


class Identity(Elementwise):
    """Passes its input on; stands where a module is asked for and nothing is wanted."""


class Softmax(Op):
    """exp(x) divided by its sum. Keeps the shape."""

    over: Literal["space", "channels"] = "channels"
    """What sums to 1: all channels of a position, or all positions (pixels, tokens) of a channel."""

    def infer(self, shapes: Sequence[Shape], env: Mapping[str, int]) -> Shape:
        fit.need_features("Softmax", shapes[0])
        return shapes[0]
