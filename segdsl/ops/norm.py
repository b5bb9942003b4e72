"""Normalisations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from annotated_types import Gt, Le, Lt

from segdsl.ir.graph import Op, ShapeError, State
from segdsl.ir.program import PositiveInt
from segdsl.ir.shape import Shape, at
from segdsl.ops import fit

Epsilon = Annotated[float, Gt(0), Lt(0.1)]
"""What is added to a variance; a larger one is a number of channels in the wrong place."""


def _affine(shape: Shape) -> dict[str, State]:
    width = (shape[fit.channel_axis(shape)],)
    return {"weight": State(width), "bias": State(width)}


class BatchNorm(Op):
    """Batch normalisation of a map: each channel over batch and space (Ioffe & Szegedy 2015). Keeps the shape."""

    eps: Epsilon = 1e-5
    """Added to the variance."""
    momentum: Annotated[float, Gt(0), Le(1)] = 0.1
    """Share of the newest batch in the running mean and variance."""
    updates: PositiveInt = 1
    """Times that a batch enters them: a norm that is applied n times to one tensor may be computed once instead."""

    def infer(self, shapes: Sequence[Shape], env: Mapping[str, int]) -> Shape:
        fit.need_map("BatchNorm", shapes[0])
        return shapes[0]

    def state(self, shapes: Sequence[Shape]) -> dict[str, State]:
        width = (shapes[0][1],)
        return {
            **_affine(shapes[0]),
            "running_mean": State(width, "buffer"),
            "running_var": State(width, "buffer"),
            "num_batches_tracked": State((), "buffer"),
        }


class LayerNorm(Op):
    """Layer normalisation over the channels of each pixel or token (Ba et al. 2016). Keeps the shape."""

    eps: Epsilon = 1e-5
    """Added to the variance."""

    def infer(self, shapes: Sequence[Shape], env: Mapping[str, int]) -> Shape:
        fit.need_features("LayerNorm", shapes[0])
        return shapes[0]

    def state(self, shapes: Sequence[Shape]) -> dict[str, State]:
        return _affine(shapes[0])


class GroupNorm(Op):
    """Group normalisation of a map: groups of channels over space, per image (Wu & He 2018). Keeps the shape."""

    groups: PositiveInt = 32
    """Groups of channels with a common mean and variance; divides the channels."""
    eps: Epsilon = 1e-5
    """Added to the variance."""

    def infer(self, shapes: Sequence[Shape], env: Mapping[str, int]) -> Shape:
        fit.need_map("GroupNorm", shapes[0])
        channels, height, width = (at(extent, env) for extent in shapes[0][1:])
        fit.need_groups("GroupNorm", channels, self.groups)
        if channels * height * width == self.groups:
            message = f"`GroupNorm` has one value in each of its {self.groups} groups, which it makes 0"
            raise ShapeError("group-of-one", message, "use fewer groups, or a larger map")
        return shapes[0]

    def state(self, shapes: Sequence[Shape]) -> dict[str, State]:
        return _affine(shapes[0])


class L2Normalize(Op):
    """v / max(||v||, 1e-12) for every vector of a map. Keeps the shape, has no parameters."""

    over: Literal["space", "channels"] = "channels"
    """What makes a vector: all positions of a channel, or all channels of a position."""

    def infer(self, shapes: Sequence[Shape], env: Mapping[str, int]) -> Shape:
        fit.need_map("L2Normalize", shapes[0])
        return shapes[0]
