"""The syntax tree of a `.seg` file: what the parser builds, and what everything else reads.

Plain dataclasses, one for each construct of the language, each with the span it came from. No meaning is decided here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Union

from segdsl.diagnostics import Span


@dataclass(frozen=True, slots=True)
class Ident:
    """A name with its place."""

    name: str
    span: Span


# --- expressions -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Constant:
    """A number, a string, `true`, `false` or `none`: ``value`` is the Python object."""

    value: int | float | str | bool | None
    span: Span


@dataclass(frozen=True, slots=True)
class SizeLiteral:
    """`480x640`: height x width."""

    height: int
    width: int
    span: Span


@dataclass(frozen=True, slots=True)
class QuantityLiteral:
    """`100 iters`: a number and a unit."""

    value: int | float
    unit: Ident
    span: Span


@dataclass(frozen=True, slots=True)
class RangeExpr:
    """`0.2..1.0`."""

    low: Expr
    high: Expr
    span: Span


@dataclass(frozen=True, slots=True)
class Name:
    """A bare name, of a value or of a component."""

    name: str
    span: Span


@dataclass(frozen=True, slots=True)
class Attribute:
    """`value.name`: a property (`x.channels`), a path (`data.classes`) or a qualified name (`ns.Block`)."""

    value: Expr
    name: Ident
    span: Span


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a call; ``name`` is None for a positional one."""

    name: Ident | None
    value: Expr
    span: Span


@dataclass(frozen=True, slots=True)
class Call:
    """`Conv(64, 3x3)` or `len(xs)`; ``func`` is a Name or an Attribute of Names."""

    func: Expr
    args: tuple[Argument, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Index:
    """`xs[i]`."""

    value: Expr
    index: Expr
    span: Span


@dataclass(frozen=True, slots=True)
class Unary:
    """`-x` or `not x`."""

    op: Literal["-", "+", "not"]
    operand: Expr
    span: Span


@dataclass(frozen=True, slots=True)
class Binary:
    """Arithmetic, comparison (not chained) or `and` / `or`. ``op_span`` is the operator's own place."""

    op: str
    left: Expr
    right: Expr
    op_span: Span
    span: Span


@dataclass(frozen=True, slots=True)
class If:
    """`if test then then else other`."""

    test: Expr
    then: Expr
    other: Expr
    span: Span


@dataclass(frozen=True, slots=True)
class ListExpr:
    """`[a, b, c]`."""

    items: tuple[Expr, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Comprehension:
    """`[element for a, b in source from carry = start]`; ``carry`` and ``start`` are None without `from`."""

    element: Expr
    targets: tuple[Ident, ...]
    source: Expr
    carry: Ident | None
    start: Expr | None
    span: Span


@dataclass(frozen=True, slots=True)
class ShapeNote:
    """`[B, 48, H/4, W/4]`; or the kind `list`, for which ``dims`` is None."""

    dims: tuple[Expr, ...] | None
    span: Span


@dataclass(frozen=True, slots=True)
class Step:
    """What stands after one arrow: `each Unit(c) * n as name: shape`."""

    component: Expr
    each: bool
    repeat: Expr | None
    name: Ident | None
    note: ShapeNote | None
    span: Span


@dataclass(frozen=True, slots=True)
class Flow:
    """`source -> step -> step`. A chain of modules when ``source`` is a module itself."""

    source: Expr
    steps: tuple[Step, ...]
    span: Span


Expr = Union[
    Constant, SizeLiteral, QuantityLiteral, RangeExpr, Name, Attribute, Call, Index, Unary, Binary, If, ListExpr,
    Comprehension, Flow,
]  # fmt: skip


# --- statements ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Import:
    """`import "path" as alias`."""

    path: Constant
    alias: Ident | None
    span: Span


@dataclass(frozen=True, slots=True)
class Extends:
    """`extends "path"`."""

    path: Constant
    span: Span


@dataclass(frozen=True, slots=True)
class Let:
    """`let name = value`, in a file or a block."""

    name: Ident
    value: Expr
    span: Span


@dataclass(frozen=True, slots=True)
class Parameter:
    """`kernel: size = 1x1` in the head of a block; ``default`` is None for a required one."""

    name: Ident
    type: Ident
    default: Expr | None
    span: Span


@dataclass(frozen=True, slots=True)
class Block:
    """`block Name(parameters) { body }` or `model …`. ``doc`` is the text of the `##` lines right above it."""

    kind: Literal["block", "model"]
    name: Ident
    parameters: tuple[Parameter, ...]
    body: tuple[Statement, ...]
    doc: str
    span: Span


@dataclass(frozen=True, slots=True)
class Section:
    """`data.train { … }`: the statements of a section, in order."""

    path: tuple[Ident, ...]
    body: tuple[Statement, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Assign:
    """`path = value`; in a block, ``path`` is the one name that is bound."""

    path: tuple[Ident, ...]
    value: Expr
    span: Span


@dataclass(frozen=True, slots=True)
class Drop:
    """`drop path`."""

    path: tuple[Ident, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class In:
    """`in x: [B, C, H, W]`, `in xs: list`, `in x`."""

    name: Ident
    note: ShapeNote | None
    span: Span


@dataclass(frozen=True, slots=True)
class Param:
    """`param name: shape = init`, a free parameter of a block."""

    name: Ident
    note: ShapeNote
    init: Expr
    span: Span


@dataclass(frozen=True, slots=True)
class Out:
    """`out name: shape = value`."""

    name: Ident
    note: ShapeNote | None
    value: Expr
    span: Span


@dataclass(frozen=True, slots=True)
class Run:
    """A flow that binds nothing but its named steps: `image -> Stem() as stem`."""

    value: Expr
    span: Span


@dataclass(frozen=True, slots=True)
class Broken:
    """A statement that did not parse; the parser went on after it."""

    span: Span


Statement = Union[Import, Extends, Let, Block, Section, Assign, Drop, In, Param, Out, Run, Broken]


@dataclass(frozen=True, slots=True)
class File:
    """A whole file. ``name`` is the key of its text among the sources; ``doc`` the `##` lines right below `seg 1`."""

    name: str
    version: int | None
    doc: str
    body: tuple[Statement, ...]
    span: Span
