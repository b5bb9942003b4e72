"""Joining, splitting and reordering channels. Only these ops take or return lists of tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal

from annotated_types import MinLen

from segdsl.ir.fields import NaturalInt, PositiveInt
from segdsl.ir.graph import Op, ShapeError
from segdsl.ir.shape import Shape, evaluate_extent, format_shape
from segdsl.ops import fit


class Concat(Op):
    """Concatenates a list of maps, or of tokens, along the channels."""

    aliases = ("cat concatenate",)

    flows: ClassVar[Literal["tensor", "list", "nothing"]] = "list"

    def infer_shape(self, shapes: Sequence[Shape], env: Mapping[str, int]) -> Shape:
        if not shapes:
            raise ShapeError("nothing-to-join", "`Concat` got an empty list", "pass at least one tensor")
        first = shapes[0]
        axis = fit.get_channel_axis(first)
        rest = [a for a in range(len(first)) if a != axis]
        for index, shape in enumerate(shapes):
            fit.require_features("Concat", shape, operand=index)
            if len(shape) != len(first):
                message = (
                    f"`Concat` needs tensors of the same rank, got {format_shape(first)} and {format_shape(shape)}"
                )
                raise ShapeError("wrong-rank", message, "convert one with `Tokens` or `ToMap`", operand=index)
            fit.require_equal_sizes("Concat", first, shape, env, rest, operand=index)
        return (*first[:axis], sum(shape[axis] for shape in shapes), *first[axis + 1 :])


class Split(Op):
    """Splits the channels into a list of tensors."""

    returns: ClassVar[Literal["tensor", "list"]] = "list"

    sizes: Annotated[tuple[PositiveInt, ...], MinLen(1)]
    """Channels of each part; their sum is the number of input channels."""

    def infer_shape(self, shapes: Sequence[Shape], env: Mapping[str, int]) -> Shape:
        """Return the shape of the operand."""
        # A node has a single shape; those of the parts are the shapes of the `Item` nodes that follow.
        fit.require_features("Split", shapes[0])
        channels = evaluate_extent(shapes[0][fit.get_channel_axis(shapes[0])], env)
        if sum(self.sizes) != channels:
            total = " + ".join(str(size) for size in self.sizes)
            message = f"`Split` sizes must add up to {channels} channels, got {total} = {sum(self.sizes)}"
            raise ShapeError("split-does-not-add-up", message, f"change the sizes so that they add up to {channels}")
        return shapes[0]


class Item(Op):
    """One part of a `Split`, written as an element of its list."""

    index: NaturalInt
    """Position of the part, from 0."""
    channels: PositiveInt
    """Channels of the part."""

    def infer_shape(self, shapes: Sequence[Shape], env: Mapping[str, int]) -> Shape:
        axis = fit.get_channel_axis(shapes[0])
        return (*shapes[0][:axis], self.channels, *shapes[0][axis + 1 :])


class ChannelShuffle(Op):
    """Interleaves g groups of channels of a map: output channel i*g + j is input channel j*C/g + i.

    ShuffleNet (Zhang et al. 2017), section 3.1. Preserves the shape.
    """

    groups: PositiveInt
    """Number of groups; divides the channels."""

    def infer_shape(self, shapes: Sequence[Shape], env: Mapping[str, int]) -> Shape:
        fit.require_map("ChannelShuffle", shapes[0])
        fit.require_groups("ChannelShuffle", evaluate_extent(shapes[0][1], env), self.groups)
        return shapes[0]
