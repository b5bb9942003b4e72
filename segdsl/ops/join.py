"""Joining, cutting and reordering channels. Lists of tensors exist here only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal

from annotated_types import MinLen

from segdsl.ir.graph import Op, ShapeError
from segdsl.ir.program import NaturalInt, PositiveInt
from segdsl.ir.shape import Shape, at, show
from segdsl.ops import fit


class Concat(Op):
    """Puts the channels of a list of maps, or of tokens, one after the other."""

    flows: ClassVar[Literal["tensor", "list", "nothing"]] = "list"

    def infer(self, shapes: Sequence[Shape], env: Mapping[str, int]) -> Shape:
        if not shapes:
            raise ShapeError("nothing-to-join", "`Concat` got an empty list", "give it at least one tensor")
        first = shapes[0]
        axis = fit.channel_axis(first)
        rest = [a for a in range(len(first)) if a != axis]
        for index, shape in enumerate(shapes):
            fit.need_features("Concat", shape, operand=index)
            if len(shape) != len(first):
                message = f"`Concat` needs tensors of one kind, got {show(first)} and {show(shape)}"
                raise ShapeError("wrong-rank", message, "turn one into the other: `Tokens`, `ToMap`", operand=index)
            fit.need_equal_sizes("Concat", first, shape, env, rest, operand=index)
        return (*first[:axis], sum(shape[axis] for shape in shapes), *first[axis + 1 :])


class Split(Op):
    """Cuts the channels into parts; gives a list of tensors."""

    returns: ClassVar[Literal["tensor", "list"]] = "list"

    sizes: Annotated[tuple[PositiveInt, ...], MinLen(1)]
    """Channels of each part; they add up to the channels of the input."""

    def infer(self, shapes: Sequence[Shape], env: Mapping[str, int]) -> Shape:
        """The shape of the operand: the parts are those of the `Item` nodes that follow."""
        fit.need_features("Split", shapes[0])
        channels = at(shapes[0][fit.channel_axis(shapes[0])], env)
        if sum(self.sizes) != channels:
            written = " + ".join(str(size) for size in self.sizes)
            message = f"`Split` needs parts that add up to {channels} channels, got {written} = {sum(self.sizes)}"
            raise ShapeError("split-does-not-add-up", message, "change the sizes so that their sum is the channels")
        return shapes[0]


class Item(Op):
    """One part of a `Split`. The language writes it by taking an element of the list."""

    index: NaturalInt
    """Position of the part, from 0."""
    channels: PositiveInt
    """Channels of the part."""

    def infer(self, shapes: Sequence[Shape], env: Mapping[str, int]) -> Shape:
        axis = fit.channel_axis(shapes[0])
        return (*shapes[0][:axis], self.channels, *shapes[0][axis + 1 :])


class ChannelShuffle(Op):
    """Deals the channels of a map out like cards: groups g, result channel i*g + j is input channel j*C/g + i.

    ShuffleNet (Zhang et al. 2017), section 3.1. Keeps the shape.
    """

    groups: PositiveInt
    """Piles that are dealt from; divides the channels."""

    def infer(self, shapes: Sequence[Shape], env: Mapping[str, int]) -> Shape:
        fit.need_map("ChannelShuffle", shapes[0])
        fit.need_groups("ChannelShuffle", at(shapes[0][1], env), self.groups)
        return shapes[0]
