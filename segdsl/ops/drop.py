"""Noise of the training: does nothing in evaluation. All keep the shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

from annotated_types import Ge, Lt

from segdsl.ir.graph import Op
from segdsl.ir.shape import Shape
from segdsl.ops.fit import need_map

Rate = Annotated[float, Ge(0), Lt(1)]


class Noise(Op, abstract=True):
    """An op that draws random numbers while training: two applications to one tensor differ, and are never merged."""

    def infer(self, shapes: Sequence[Shape], env: Mapping[str, int]) -> Shape:
        return shapes[0]


class Dropout(Noise):
    """Sets numbers to 0 at random while training and divides the others by the share that is kept."""

    p: Rate = 0.5
    """Share that is dropped."""


class ChannelDropout(Noise):
    """Sets whole channels of a map to 0 at random while training and divides the others by the share that is kept."""

    p: Rate = 0.5
    """Share that is dropped."""

    def infer(self, shapes: Sequence[Shape], env: Mapping[str, int]) -> Shape:
        need_map("ChannelDropout", shapes[0])
        return shapes[0]


class DropPath(Noise):
    """Stochastic depth: sets whole images of a batch to 0 while training (Huang et al. 2016), for residual branches."""

    p: Rate = 0.1
    """Share that is dropped; the others are divided by the share that is kept."""
