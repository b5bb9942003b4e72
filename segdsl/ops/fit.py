"""What the shape rules share: which axis holds channels, when extents agree, and which input sizes would fit."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from segdsl.ir.graph import ShapeError
from segdsl.ir.shape import Ceil, Dim, Extent, Shape, at, show

Env = Mapping[str, int]


def channel_axis(shape: Shape) -> int:
    """1 for a map [B, C, H, W], the last axis for tokens [B, N, C] and vectors [C]."""
    return 1 if len(shape) == 4 else len(shape) - 1


def need_map(word: str, shape: Shape, operand: int = 0) -> None:
    """Refuses what is no map [B, C, H, W]."""
    if len(shape) == 4:
        return
    remedy = "turn tokens into a map with `ToMap(like = …)`" if len(shape) == 3 else "give it a map"
    raise ShapeError("wrong-rank", f"`{word}` needs a map [B, C, H, W], got {show(shape)}", remedy, operand=operand)


def need_tokens(word: str, shape: Shape, operand: int = 0) -> None:
    """Refuses what is no sequence of tokens [B, N, C]."""
    if len(shape) == 3:
        return
    remedy = "turn a map into tokens with `Tokens()`" if len(shape) == 4 else "give it tokens"
    raise ShapeError("wrong-rank", f"`{word}` needs tokens [B, N, C], got {show(shape)}", remedy, operand=operand)


def need_features(word: str, shape: Shape, operand: int = 0) -> None:
    """Refuses what is neither a map nor tokens."""
    if len(shape) not in (3, 4):
        message = f"`{word}` needs a map [B, C, H, W] or tokens [B, N, C], got {show(shape)}"
        raise ShapeError("wrong-rank", message, "apply it to a map or to tokens", operand=operand)


def need_groups(word: str, channels: int, groups: int, what: str = "channels") -> None:
    """Refuses groups that do not divide the channels."""
    if channels % groups:
        near = [g for g in range(groups, 0, -1) if channels % g == 0][:1]
        message = f"`{word}` cannot cut {channels} {what} into {groups} equal groups"
        multiple = max(round(channels / groups), 1) * groups
        remedy = f"choose a divisor of {channels}, for example {near[0]}, or {multiple} {what}"
        raise ShapeError("groups-do-not-divide", message, remedy)


def agree(a: Extent, b: Extent, env: Env, axis: int) -> bool:
    """Whether two extents are equal at the program's size. On axis 0 a batch `B` never equals a literal 1."""
    return a == b if axis == 0 else at(a, env) == at(b, env)


def divisor_that_fits(fits: Callable[[Env], bool], extents: Iterable[Extent], env: Env, factor: int = 1) -> int:
    """The smallest number such that ``fits`` holds wherever `H` and `W` are multiples of it; 0 when there is none.

    ``extents`` are those that ``fits`` computes with, ``factor`` a further number that the sizes may have to divide by.
    """
    period = factor * math.lcm(1, *(by for extent in extents for by in _divisors_in(extent)))
    sizes = [(i, j) for i in (1, 2, 3, 5) for j in (1, 2, 4)]
    for number in (d for d in range(1, period + 1) if period % d == 0):
        near = {name: -(-env[name] // number) * number for name in "HW"}  # where ceilings do not hide a difference
        if all(fits({**env, "H": number * i, "W": number * j}) for i, j in sizes) and fits({**env, **near}):
            return number
    return 0


def nearest_sizes(divisor: int, env: Env) -> str:
    """`504x518 or 518x518`: the input sizes next to the program's that are multiples of ``divisor``."""
    low = "x".join(str(max(env[name] // divisor, 1) * divisor) for name in "HW")
    high = "x".join(str(-(-env[name] // divisor) * divisor) for name in "HW")
    return low if low == high else f"{low} or {high}"


def size_help(divisor: int, env: Env, otherwise: str) -> str:
    """What to do about a size that does not fit: the nearest that do, else ``otherwise``."""
    if not divisor:
        return otherwise
    return f"set `data.input_size` to {nearest_sizes(divisor, env)} (multiples of {divisor}), or {otherwise}"


def values(shape: Shape, env: Env) -> str:
    """`[B, 48, H/4, W/4] (128x128 at 512x512)`: a shape and, where it is symbolic, what that is in the program."""
    if len(shape) < 3 or all(isinstance(extent, int) for extent in shape[1:]):
        return show(shape)
    spatial = shape[2:] if len(shape) == 4 else shape[1:2]
    got = "x".join(str(at(extent, env)) for extent in spatial) + ("" if len(shape) == 4 else " tokens")
    size = f"{env['H']}x{env['W']}"
    return f"{show(shape)} ({got})" if got == size else f"{show(shape)} ({got} at {size})"


def need_equal_sizes(word: str, first: Shape, other: Shape, env: Env, axes: Sequence[int], operand: int) -> None:
    """Refuses two shapes that differ at the program's size on one of ``axes``."""
    if all(agree(first[axis], other[axis], env, axis) for axis in axes):
        return

    def fits(there: Env) -> bool:
        return all(agree(first[axis], other[axis], there, axis) for axis in axes)

    divisor = divisor_that_fits(fits, [s[axis] for s in (first, other) for axis in axes], env)
    message = f"`{word}` needs equal sizes, got {values(first, env)} and {values(other, env)}"
    remedy = "resize one to the other with `ResizeTo`" if len(first) == 4 else "give both the same number of tokens"
    raise ShapeError("size-mismatch", message, size_help(divisor, env, remedy), operand=operand, divisor=divisor)


def _divisors_in(extent: Extent) -> Iterable[int]:
    if isinstance(extent, Dim):
        for monomial, _ in extent.terms:
            for atom in monomial:
                if isinstance(atom, Ceil):
                    yield atom.by
                    yield from _divisors_in(atom.of)
