"""Conversion between maps [B, C, H, W] and tokens [B, N, C]."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from segdsl.ir.fields import NaturalInt
from segdsl.ir.graph import Op, Operand, ShapeError
from segdsl.ir.shape import Shape, evaluate_extent, format_shape
from segdsl.ops import fit


class Tokens(Op):
    """The pixels of a map, row by row, as tokens: [B, C, H, W] -> [B, H*W, C], preceded by those of `first`."""

    takes: ClassVar[tuple[Operand, ...]] = (Operand("first", "Tokens [1, n, C] to put before all others.", True),)

    def infer_shape(self, shapes: Sequence[Shape], env: Mapping[str, int]) -> Shape:
        fit.require_map("Tokens", shapes[0])
        batch, channels, height, width = shapes[0]
        if len(shapes) == 1:
            return (batch, height * width, channels)
        first = shapes[1]
        fit.require_tokens("Tokens", first, operand=1)
        # The batch of `first` is 1 and is repeated, so only its channels must match.
        if evaluate_extent(first[2], env) != evaluate_extent(channels, env):
            got = f"{format_shape(first)} before {format_shape(shapes[0])}"
            message = f"`Tokens` needs `first` with {channels} channels, got {got}"
            remedy = f"declare `first` as [1, {first[1]}, {channels}]"
            raise ShapeError("channel-mismatch", message, remedy, operand=1)
        return (batch, first[1] + height * width, channels)


class ToMap(Op):
    """Tokens as a map with the height and width of another: [B, skip + h*w, C] -> [B, C, h, w]."""

    takes: ClassVar[tuple[Operand, ...]] = (Operand("like", "Map with the height and width of the result."),)

    skip: NaturalInt = 0
    """Number of leading tokens to drop, such as a class token."""

    def infer_shape(self, shapes: Sequence[Shape], env: Mapping[str, int]) -> Shape:
        fit.require_tokens("ToMap", shapes[0])
        fit.require_map("ToMap", shapes[1], operand=1)
        batch, tokens, channels = shapes[0]
        height, width = shapes[1][2:]
        expected = self.skip + height * width
        if evaluate_extent(tokens, env) != evaluate_extent(expected, env):
            raise self._make_mismatch_error(
                evaluate_extent(tokens, env), evaluate_extent(height * width, env), format_shape(shapes[1])
            )
        return (batch, channels, height, width)

    def _make_mismatch_error(self, tokens: int, pixels: int, like: str) -> ShapeError:
        message = f"`ToMap` needs {self.skip} + {pixels} tokens for a map like {like}, got {tokens}"
        remedy = "set `like` to the map that the tokens were made from"
        # Extra tokens are most likely class tokens, but too few can only mean the wrong map.
        if tokens >= pixels:
            remedy = f"if `like` is the right map, set `skip = {tokens - pixels}` to drop the leading tokens"
        return ShapeError("tokens-do-not-fit", message, remedy)
