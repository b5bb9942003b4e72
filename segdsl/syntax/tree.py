"""The syntax tree of a `.seg` file, built by the parser and read by everything else.

Frozen records, one per construct of the language, each with its source span. No meaning is decided here.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Union, dataclass_transform

from segdsl.diagnostics import Span


@dataclass_transform(frozen_default=True)
class Tree:
    """Base class of all constructs: immutable, comparable, with the fields that its annotations declare."""

    # Not dataclasses: defining those takes ten times as long, and every start of the command would pay for it.
    parts: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        cls.parts = cls.__match_args__ = tuple(cls.__annotations__)

    def __init__(self, *args: Any, **named: Any) -> None:
        values = self.__dict__
        values.update(zip(self.parts, args, strict=False))
        values.update(named)
        if len(values) != len(self.parts) or len(args) + len(named) != len(self.parts):
            raise TypeError(f"{type(self).__name__} takes {', '.join(self.parts)}")

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{type(self).__name__}.{name} cannot be set: a tree is frozen")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash((type(self), *self.__dict__.values()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.__dict__.items())})"

    def replace_parts(self, **values: Any) -> Any:
        """Return a copy with some parts replaced."""
        return type(self)(**{**self.__dict__, **values})


class Ident(Tree):
    """A name with its span."""

    name: str
    span: Span


# --- expressions -----------------------------------------------------------------------------------------------------


class Constant(Tree):
    """A number, a string, `true`, `false` or `none`; ``value`` is the Python object."""

    value: int | float | str | bool | None
    span: Span


class SizeLiteral(Tree):
    """`480x640`: height x width."""

    height: int
    width: int
    span: Span


class QuantityLiteral(Tree):
    """`100 iters`: a number and a unit."""

    value: int | float
    unit: Ident
    span: Span


class RangeExpr(Tree):
    """`0.2..1.0`."""

    low: Expr
    high: Expr
    span: Span


class Name(Tree):
    """A bare name, of a value or of a component."""

    name: str
    span: Span


class Attribute(Tree):
    """`value.name`: a property (`x.channels`), a path (`data.classes`) or a qualified name (`ns.Block`)."""

    value: Expr
    name: Ident
    span: Span


class Argument(Tree):
    """One argument of a call; ``name`` is None for a positional one."""

    name: Ident | None
    value: Expr
    span: Span


class Call(Tree):
    """`Conv(64, 3x3)` or `len(xs)`; ``func`` is a Name or an Attribute of Names."""

    func: Expr
    args: tuple[Argument, ...]
    span: Span


class Index(Tree):
    """`xs[i]`."""

    value: Expr
    index: Expr
    span: Span


class Unary(Tree):
    """`-x` or `not x`."""

    op: Literal["-", "+", "not"]
    operand: Expr
    span: Span


class Binary(Tree):
    """Arithmetic, comparison (not chained) or `and` / `or`. ``op_span`` is the span of the operator."""

    op: str
    left: Expr
    right: Expr
    op_span: Span
    span: Span


class If(Tree):
    """`if test then then else other`."""

    test: Expr
    then: Expr
    other: Expr
    span: Span


class ListExpr(Tree):
    """`[a, b, c]`."""

    items: tuple[Expr, ...]
    span: Span


class Comprehension(Tree):
    """`[element for a, b in source from carry = start]`; ``carry`` and ``start`` are None without `from`."""

    element: Expr
    targets: tuple[Ident, ...]
    source: Expr
    carry: Ident | None
    start: Expr | None
    span: Span


class ShapeNote(Tree):
    """An annotation: a shape such as `[B, 48, H/4, W/4]`, or `list`, for which ``dims`` is None."""

    dims: tuple[Expr, ...] | None
    span: Span


class Step(Tree):
    """The part after one arrow: `each Unit(c) * n as name: shape`."""

    component: Expr
    each: bool
    repeat: Expr | None
    name: Ident | None
    note: ShapeNote | None
    span: Span


class Flow(Tree):
    """`source -> step -> step`; a chain of modules if ``source`` is a module itself."""

    source: Expr
    steps: tuple[Step, ...]
    span: Span


Expr = Union[
    Constant, SizeLiteral, QuantityLiteral, RangeExpr, Name, Attribute, Call, Index, Unary, Binary, If, ListExpr,
    Comprehension, Flow,
]  # fmt: skip


# --- statements ------------------------------------------------------------------------------------------------------


class Import(Tree):
    """`import "path" as alias`."""

    path: Constant
    alias: Ident | None
    span: Span


class Extends(Tree):
    """`extends "path"`."""

    path: Constant
    span: Span


class Let(Tree):
    """`let name = value`, in a file or a block."""

    name: Ident
    value: Expr
    span: Span


class Parameter(Tree):
    """`kernel: size = 1x1` in the head of a block; ``default`` is None for a required one."""

    name: Ident
    type: Ident
    default: Expr | None
    span: Span


class Block(Tree):
    """`block Name(parameters) { body }` or `model …`. ``doc`` is the text of the `##` lines directly above it."""

    kind: Literal["block", "model"]
    name: Ident
    parameters: tuple[Parameter, ...]
    body: tuple[Statement, ...]
    doc: str
    span: Span


class Section(Tree):
    """`data.train { … }`: the statements of a section, in order."""

    path: tuple[Ident, ...]
    body: tuple[Statement, ...]
    span: Span


class Assign(Tree):
    """`path = value`; in a block, ``path`` is the single name that it binds."""

    path: tuple[Ident, ...]
    value: Expr
    span: Span


class Drop(Tree):
    """`drop path`."""

    path: tuple[Ident, ...]
    span: Span


class In(Tree):
    """`in x: [B, C, H, W]`, `in xs: list`, `in x`."""

    name: Ident
    note: ShapeNote | None
    span: Span


class Param(Tree):
    """`param name: shape = init`, a trainable tensor of a block."""

    name: Ident
    note: ShapeNote
    init: Expr
    span: Span


class Out(Tree):
    """`out name: shape = value`."""

    name: Ident
    note: ShapeNote | None
    value: Expr
    span: Span


class Run(Tree):
    """A flow as a statement, which binds only its named steps: `image -> Stem() as stem`."""

    value: Expr
    span: Span


class ErrorStatement(Tree):
    """A statement with a syntax error, in place of the statement that did not parse."""

    span: Span


Statement = Union[Import, Extends, Let, Block, Section, Assign, Drop, In, Param, Out, Run, ErrorStatement]


class File(Tree):
    """A whole file. ``name`` is its key in the sources; ``doc`` is the text of the `##` lines below `seg 1`."""

    name: str
    version: int | None
    doc: str
    body: tuple[Statement, ...]
    span: Span
