"""Random noise during training; no effect in evaluation. All preserve the shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from annotated_types import Ge, Lt

from segdsl.ir.graph import Op
from segdsl.ir.shape import Shape
from segdsl.ops.fit import require_map

Rate = Annotated[float, Ge(0), Lt(1)]


class Noise(Op, abstract=True):
    """An op that draws random numbers during training: two applications to one tensor differ, and are never merged."""

    is_random = True

    def get_output_sign(self) -> Literal["any", "nonnegative", "input"]:
        return "input"

    def infer_shape(self, shapes: Sequence[Shape], env: Mapping[str, int]) -> Shape:
        return shapes[0]


class Dropout(Noise):
    """Sets random values to 0 during training and divides the others by the fraction kept."""

    p: Rate = 0.5
    """Fraction of values to drop."""


class ChannelDropout(Noise):
    """Sets random channels of a map to 0 during training and divides the others by the fraction kept."""

    aliases = ("dropout2d",)

    p: Rate = 0.5
    """Fraction of channels to drop."""

    def infer_shape(self, shapes: Sequence[Shape], env: Mapping[str, int]) -> Shape:
        require_map("ChannelDropout", shapes[0])
        return shapes[0]


class DropPath(Noise):
    """Stochastic depth for residual branches: sets random images of a batch to 0 in training (Huang et al. 2016)."""

    p: Rate = 0.1
    """Fraction of images to drop; the others are divided by the fraction kept."""
