"""Helpers of the shape rules: the channel axis, equality of extents, and input sizes that would fit."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from segdsl.ir.graph import ShapeError
from segdsl.ir.shape import Ceil, Dim, Extent, Shape, evaluate_extent, format_shape

Env = Mapping[str, int]


def get_channel_axis(shape: Shape) -> int:
    """Return the channel axis: 1 for a map [B, C, H, W], the last axis for tokens [B, N, C] and vectors [C]."""
    return 1 if len(shape) == 4 else len(shape) - 1


def require_map(word: str, shape: Shape, operand: int = 0) -> None:
    """Raise ShapeError unless ``shape`` is a map [B, C, H, W]."""
    if len(shape) == 4:
        return
    remedy = "convert tokens to a map with `ToMap(like = …)`" if len(shape) == 3 else "pass a map"
    raise ShapeError(
        "wrong-rank", f"`{word}` needs a map [B, C, H, W], got {format_shape(shape)}", remedy, operand=operand
    )


def require_tokens(word: str, shape: Shape, operand: int = 0) -> None:
    """Raise ShapeError unless ``shape`` is a sequence of tokens [B, N, C]."""
    if len(shape) == 3:
        return
    remedy = "convert a map to tokens with `Tokens()`" if len(shape) == 4 else "pass tokens"
    raise ShapeError(
        "wrong-rank", f"`{word}` needs tokens [B, N, C], got {format_shape(shape)}", remedy, operand=operand
    )


def require_features(word: str, shape: Shape, operand: int = 0) -> None:
    """Raise ShapeError unless ``shape`` is a map or tokens."""
    if len(shape) not in (3, 4):
        message = f"`{word}` needs a map [B, C, H, W] or tokens [B, N, C], got {format_shape(shape)}"
        raise ShapeError("wrong-rank", message, "pass a map or tokens", operand=operand)


def require_groups(word: str, channels: int, groups: int, noun: str = "channels") -> None:
    """Raise ShapeError unless ``groups`` divides ``channels``; ``noun`` names the channels in the message."""
    if channels % groups:
        # Suggest both ways out: fewer groups, or the nearest number of channels that these groups divide.
        near = [g for g in range(groups, 0, -1) if channels % g == 0][:1]
        message = f"`{word}` cannot split {channels} {noun} into {groups} equal groups"
        multiple = max(round(channels / groups), 1) * groups
        remedy = f"use a divisor of {channels}, for example {near[0]}, or {multiple} {noun}"
        raise ShapeError("groups-do-not-divide", message, remedy)


def are_extents_equal(a: Extent, b: Extent, env: Env, axis: int) -> bool:
    """Return whether two extents are equal at the program's input size."""
    # `env` has B = 1, but the batch is 1 only there: on axis 0 the extents must be equal as symbols.
    return a == b if axis == 0 else evaluate_extent(a, env) == evaluate_extent(b, env)


def find_fitting_divisor(fits: Callable[[Env], bool], extents: Iterable[Extent], env: Env, factor: int = 1) -> int:
    """Return the smallest number such that ``fits`` holds if `H` and `W` are multiples of it, or 0 if there is none.

    ``extents`` are the extents that ``fits`` evaluates; ``factor`` is another divisor that the sizes may need.
    """
    # Ceilings repeat with the product of their divisors, so only divisors of that period can be the answer. A dozen
    # sizes stand in for all multiples; the size next to the program's is among them, since the message suggests it.
    period = factor * math.lcm(1, *(by for extent in extents for by in _iterate_divisors(extent)))
    sizes = [(i, j) for i in (1, 2, 3, 5) for j in (1, 2, 4)]
    for number in (d for d in range(1, period + 1) if period % d == 0):
        near = {name: -(-env[name] // number) * number for name in "HW"}
        if all(fits({**env, "H": number * i, "W": number * j}) for i, j in sizes) and fits({**env, **near}):
            return number
    return 0


def format_nearest_sizes(divisor: int, env: Env) -> str:
    """Return the closest input sizes that are multiples of ``divisor``: `504x518 or 518x518`."""
    low = "x".join(str(max(env[name] // divisor, 1) * divisor) for name in "HW")
    high = "x".join(str(-(-env[name] // divisor) * divisor) for name in "HW")
    return low if low == high else f"{low} or {high}"


def suggest_input_size(divisor: int, env: Env, fallback: str) -> str:
    """Return the help for a size that does not fit: the closest sizes that do, or only ``fallback``."""
    if not divisor:
        return fallback
    return f"set `data.input_size` to {format_nearest_sizes(divisor, env)} (multiples of {divisor}), or {fallback}"


def format_shape_values(shape: Shape, env: Env) -> str:
    """Format a shape with its values at the program's size: `[B, 48, H/4, W/4] (128x128 at 512x512)`."""
    if len(shape) < 3 or all(isinstance(extent, int) for extent in shape[1:]):
        return format_shape(shape)
    spatial = shape[2:] if len(shape) == 4 else shape[1:2]
    got = "x".join(str(evaluate_extent(extent, env)) for extent in spatial) + ("" if len(shape) == 4 else " tokens")
    size = f"{env['H']}x{env['W']}"
    return f"{format_shape(shape)} ({got})" if got == size else f"{format_shape(shape)} ({got} at {size})"


def require_equal_sizes(word: str, first: Shape, other: Shape, env: Env, axes: Sequence[int], operand: int) -> None:
    """Raise ShapeError if two shapes differ on one of ``axes`` at the program's input size."""
    if all(are_extents_equal(first[axis], other[axis], env, axis) for axis in axes):
        return

    def sizes_agree(env: Env) -> bool:
        return all(are_extents_equal(first[axis], other[axis], env, axis) for axis in axes)

    divisor = find_fitting_divisor(sizes_agree, [s[axis] for s in (first, other) for axis in axes], env)
    message = f"`{word}` needs equal sizes, got {format_shape_values(first, env)} and {format_shape_values(other, env)}"
    remedy = "resize one to the other with `ResizeTo`" if len(first) == 4 else "use the same number of tokens in both"
    raise ShapeError(
        "size-mismatch", message, suggest_input_size(divisor, env, remedy), operand=operand, divisor=divisor
    )


def _iterate_divisors(extent: Extent) -> Iterable[int]:
    if isinstance(extent, Dim):
        for monomial, _ in extent.terms:
            for atom in monomial:
                if isinstance(atom, Ceil):
                    yield atom.by
                    yield from _iterate_divisors(atom.of)
