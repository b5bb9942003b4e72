"""Elementwise arithmetic `+ - * /` on two tensors, or on a tensor and a number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from segdsl.ir.graph import Op, Operand, ShapeError
from segdsl.ir.shape import Shape, evaluate_extent, format_shape
from segdsl.ops import fit


class Arithmetic(Op, abstract=True):
    """Two operands, one of which may be a number (``left`` or ``right``).

    Shapes are equal, or one side is a scalar, a vector [C] over the channels, a gate [B, C, 1, 1] or [1, C, 1, 1] over
    a map, or [1, N, C], [1, 1, C], [B, 1, C] over tokens.
    """

    symbol: ClassVar[str] = ""
    takes: ClassVar[tuple[Operand, ...]] = (Operand("other", "The right side, unless that is a number.", True),)

    left: float | None = None
    """A number as the left side; the tensor is then the right side."""
    right: float | None = None
    """A number as the right side."""

    def infer_shape(self, shapes: Sequence[Shape], env: Mapping[str, int]) -> Shape:
        sides = len(shapes) + (self.left is not None) + (self.right is not None)
        if sides != 2:
            message = f"`{type(self).__name__}` needs exactly 2 operands, got {sides}"
            raise ShapeError("operand-count", message, "pass exactly one of `other`, `left` and `right`")
        return shapes[0] if len(shapes) == 1 else broadcast_shapes(self.symbol, shapes[0], shapes[1], env)


class Add(Arithmetic):
    """The sum of two tensors, or of a tensor and a number: `a + b`."""

    symbol = "+"


class Subtract(Arithmetic):
    """The difference of two tensors, or of a tensor and a number: `a - b`."""

    symbol = "-"


class Multiply(Arithmetic):
    """The elementwise product of two tensors, or of a tensor and a number: `a * b`."""

    symbol = "*"


class Divide(Arithmetic):
    """The elementwise quotient of two tensors, or of a tensor and a number: `a / b`."""

    symbol = "/"


def broadcast_shapes(symbol: str, left: Shape, right: Shape, env: Mapping[str, int]) -> Shape:
    """Return the shape of `left symbol right`; raise ShapeError if the shapes do not fit."""
    # Stricter than PyTorch, which aligns shapes from the right: a vector [C] over a map would meet the width there.
    if len(left) != len(right):
        return _broadcast_lower_rank(symbol, left, right, env)
    axis = fit.get_channel_axis(left)
    if left and not fit.are_extents_equal(left[axis], right[axis], env, axis):
        raise _make_channel_error(symbol, left, right, axis, axis)
    free = _find_free_axes(left, right)
    rest = [a for a in range(len(left)) if a not in (axis, *free)]
    fit.require_equal_sizes(symbol, left, right, env, rest, operand=1)
    return tuple(b if a == 1 else a for a, b in zip(left, right, strict=True))


def _find_free_axes(left: Shape, right: Shape) -> list[int]:
    """Return the axes on which an extent of 1 is broadcast."""
    if len(left) == 3:
        return [a for a in (0, 1) if 1 in (left[a], right[a])]
    if len(left) != 4:
        return []
    # A map of height 1 but not width 1 is most likely a mistake: only full gates are broadcast over space.
    gated = any(side[2] == 1 and side[3] == 1 for side in (left, right))
    return [*([0] if 1 in (left[0], right[0]) else []), *([2, 3] if gated else [])]


def _broadcast_lower_rank(symbol: str, left: Shape, right: Shape, env: Mapping[str, int]) -> Shape:
    """Broadcast a scalar over anything, or a vector over the channels of a map or of tokens."""
    wide, narrow = (right, left) if len(left) < len(right) else (left, right)
    if len(narrow) == 0:
        return wide
    if len(narrow) == 1:
        axis = fit.get_channel_axis(wide)
        if narrow[0] == 1 or evaluate_extent(narrow[0], env) == evaluate_extent(wide[axis], env):
            return wide
        raise _make_channel_error(symbol, left, right, *((axis, 0) if wide is left else (0, axis)))
    message = f"`{symbol}` cannot combine {format_shape(left)} and {format_shape(right)}"
    raise ShapeError("wrong-rank", message, "convert one with `Tokens` or `ToMap`", operand=1)


def _make_channel_error(symbol: str, left: Shape, right: Shape, left_axis: int, right_axis: int) -> ShapeError:
    ours, theirs = left[left_axis], right[right_axis]
    message = (
        f"`{symbol}` needs equal channels, got {ours} and {theirs}: {format_shape(left)} and {format_shape(right)}"
    )
    remedy = "declare the parameter with the channel count of the tensor"
    if len(left) > 1 and len(right) > 1:
        project = f"`-> Conv({ours}, 1x1)`" if len(right) == 4 else f"`-> Linear({ours})`"
        remedy = f"project the right side first: {project}"
    return ShapeError("channel-mismatch", message, remedy, operand=1)
