"""Normalization ops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from annotated_types import Gt, Le, Lt

from segdsl.ir.graph import Op, ShapeError, State
from segdsl.ir.program import PositiveInt
from segdsl.ir.shape import Shape, at
from segdsl.ops import fit

Epsilon = Annotated[float, Gt(0), Lt(0.1)]
"""Constant added to a variance. The upper limit catches a channel count passed in its place."""


def _affine(shape: Shape) -> dict[str, State]:
    width = (shape[fit.channel_axis(shape)],)
    return {"weight": State(width), "bias": State(width)}


class BatchNorm(Op):
    """Batch normalization of a map: each channel over batch and space (Ioffe & Szegedy 2015). Preserves the shape."""

    eps: Epsilon = 1e-5
    """Added to the variance."""
    momentum: Annotated[float, Gt(0), Le(1)] = 0.1
    """Weight of the newest batch in the running mean and variance."""
    updates: PositiveInt = 1
    """How often each batch updates them; set when n applications to one tensor are computed once."""

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
    """Layer normalization over the channels of each pixel or token (Ba et al. 2016). Preserves the shape."""

    eps: Epsilon = 1e-5
    """Added to the variance."""

    def infer(self, shapes: Sequence[Shape], env: Mapping[str, int]) -> Shape:
        fit.need_features("LayerNorm", shapes[0])
        return shapes[0]

    def state(self, shapes: Sequence[Shape]) -> dict[str, State]:
        return _affine(shapes[0])


class GroupNorm(Op):
    """Group normalization of a map: groups of channels over space, per image (Wu & He 2018). Preserves the shape."""

    groups: PositiveInt = 32
    """Number of channel groups, each with one mean and variance; divides the channels."""
    eps: Epsilon = 1e-5
    """Added to the variance."""

    def infer(self, shapes: Sequence[Shape], env: Mapping[str, int]) -> Shape:
        fit.need_map("GroupNorm", shapes[0])
        channels, height, width = (at(extent, env) for extent in shapes[0][1:])
        fit.need_groups("GroupNorm", channels, self.groups)
        if channels * height * width == self.groups:
            # One value minus its own mean is 0, whatever the input is.
            message = f"`GroupNorm` has a single value in each of its {self.groups} groups, so its output is always 0"
            raise ShapeError("group-of-one", message, "use fewer groups or a larger map")
        return shapes[0]

    def state(self, shapes: Sequence[Shape]) -> dict[str, State]:
        return _affine(shapes[0])


class L2Normalize(Op):
    """v / max(||v||, 1e-12) for every vector of a map. Preserves the shape, has no parameters."""

    over: Literal["space", "channels"] = "channels"
    """What forms a vector: the positions of each channel, or the channels of each position."""

    def infer(self, shapes: Sequence[Shape], env: Mapping[str, int]) -> Shape:
        fit.need_map("L2Normalize", shapes[0])
        return shapes[0]
