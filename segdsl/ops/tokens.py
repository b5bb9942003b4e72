"""Between maps [B, C, H, W] and tokens [B, N, C]."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from segdsl.ir.graph import Op, Operand, ShapeError
from segdsl.ir.program import NaturalInt
from segdsl.ir.shape import Shape, at, show
from segdsl.ops import fit


class Tokens(Op):
    """The pixels of a map, row by row, as tokens: [B, C, H, W] -> [B, H*W, C], after those of `first` if given."""

    takes: ClassVar[tuple[Operand, ...]] = (Operand("first", "Tokens [1, n, C] that come before all others.", True),)

    def infer(self, shapes: Sequence[Shape], env: Mapping[str, int]) -> Shape:
        fit.need_map("Tokens", shapes[0])
        batch, channels, height, width = shapes[0]
        if len(shapes) == 1:
            return (batch, height * width, channels)
        first = shapes[1]
        fit.need_tokens("Tokens", first, operand=1)
        if at(first[2], env) != at(channels, env):
            message = f"`Tokens` needs `first` with {channels} channels, got {show(first)} before {show(shapes[0])}"
            remedy = f"declare it as [1, {first[1]}, {channels}]"
            raise ShapeError("channel-mismatch", message, remedy, operand=1)
        return (batch, first[1] + height * width, channels)


class ToMap(Op):
    """Tokens as a map of the height and width of another: [B, skip + h*w, C] -> [B, C, h, w]."""

    takes: ClassVar[tuple[Operand, ...]] = (Operand("like", "A map whose height and width the result gets."),)

    skip: NaturalInt = 0
    """Tokens at the front that are left out (a class token)."""

    def infer(self, shapes: Sequence[Shape], env: Mapping[str, int]) -> Shape:
        fit.need_tokens("ToMap", shapes[0])
        fit.need_map("ToMap", shapes[1], operand=1)
        batch, tokens, channels = shapes[0]
        height, width = shapes[1][2:]
        expected = self.skip + height * width
        if at(tokens, env) != at(expected, env):
            message = f"`ToMap` needs {self.skip} + {at(height, env)}*{at(width, env)} = {at(expected, env)} tokens for a map "
            message += f"like {show(shapes[1])}, got {at(tokens, env)}"
            remedy = f"`skip` is the number of tokens in front; {at(tokens, env) - at(expected, env) + self.skip} would fit"
            if at(tokens, env) < at(height * width, env):
                remedy = "choose as `like` the map that the tokens were made from"
            raise ShapeError("tokens-do-not-fit", message, remedy)
        return (batch, channels, height, width)
