"""Normalization ops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from annotated_types import Gt, Le, Lt

from segdsl.diagnostics.aliases import Aliases
from segdsl.ir.fields import PositiveInt
from segdsl.ir.graph import Op, ShapeError, State
from segdsl.ir.shape import Shape, evaluate_extent
from segdsl.ops import fit

Epsilon = Annotated[float, Gt(0), Lt(0.1)]
"""Constant added to a variance. The upper limit catches a channel count passed in its place."""


def _declare_affine_state(shape: Shape) -> dict[str, State]:
    width = (shape[fit.get_channel_axis(shape)],)
    return {"weight": State(width), "bias": State(width)}


class BatchNorm(Op):
    """Batch normalization of a map: each channel over batch and space (Ioffe & Szegedy 2015). Preserves the shape."""

    normalizes_batch = True
    aliases = (Aliases("batch_norm2d bn sync_batch_norm sync_bn bn2d", "the channel count is inferred: `BatchNorm()`"),)

    eps: Epsilon = 1e-5
    """Added to the variance."""
    momentum: Annotated[float, Gt(0), Le(1)] = 0.1
    """Weight of the newest batch in the running mean and variance."""
    updates: PositiveInt = 1
    """How often each batch updates them; set when n applications to one tensor are computed once."""

    def infer_shape(self, shapes: Sequence[Shape], env: Mapping[str, int]) -> Shape:
        fit.require_map("BatchNorm", shapes[0])
        return shapes[0]

    def declare_state(self, shapes: Sequence[Shape]) -> dict[str, State]:
        width = (shapes[0][1],)
        return {
            **_declare_affine_state(shapes[0]),
            "running_mean": State(width, "buffer"),
            "running_var": State(width, "buffer"),
            "num_batches_tracked": State((), "buffer"),
        }


class LayerNorm(Op):
    """Layer normalization over the channels of each pixel or token (Ba et al. 2016). Preserves the shape."""

    eps: Epsilon = 1e-5
    """Added to the variance."""

    def infer_shape(self, shapes: Sequence[Shape], env: Mapping[str, int]) -> Shape:
        fit.require_features("LayerNorm", shapes[0])
        return shapes[0]

    def declare_state(self, shapes: Sequence[Shape]) -> dict[str, State]:
        return _declare_affine_state(shapes[0])


class GroupNorm(Op):
    """Group normalization of a map: groups of channels over space, per image (Wu & He 2018). Preserves the shape."""

    groups: PositiveInt = 32
    """Number of channel groups, each with one mean and variance; divides the channels."""
    eps: Epsilon = 1e-5
    """Added to the variance."""

    def infer_shape(self, shapes: Sequence[Shape], env: Mapping[str, int]) -> Shape:
        fit.require_map("GroupNorm", shapes[0])
        channels, height, width = (evaluate_extent(extent, env) for extent in shapes[0][1:])
        fit.require_groups("GroupNorm", channels, self.groups)
        if channels * height * width == self.groups:
            # One value minus its own mean is 0, whatever the input is.
            message = f"`GroupNorm` has a single value in each of its {self.groups} groups, so its output is always 0"
            raise ShapeError("group-of-one", message, "use fewer groups or a larger map")
        return shapes[0]

    def declare_state(self, shapes: Sequence[Shape]) -> dict[str, State]:
        return _declare_affine_state(shapes[0])


class L2Normalize(Op):
    """v / max(||v||, 1e-12) for every vector of a map. Preserves the shape, has no parameters."""

    over: Literal["space", "channels"] = "channels"
    """What forms a vector: the positions of each channel, or the channels of each position."""

    def infer_shape(self, shapes: Sequence[Shape], env: Mapping[str, int]) -> Shape:
        fit.require_map("L2Normalize", shapes[0])
        return shapes[0]
