"""The record of an expression that a field cannot take; `lang/suggest/explain_misfit.py` makes the diagnostic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from segdsl.diagnostics import Span
from segdsl.ir.field_type import FieldType
from segdsl.syntax import tree

Reason = Literal[
    "value",
    "unresolved",
    "product",
    "path",
    "choice",
    "shadowed-choice",
    "score",
    "length",
    "not-a-list",
    "single-path",
    "single-word",
    "chain-step",
    "call",
    "word",
]


class Unevaluated:
    """Stands for the value of an expression whose form alone rules it out."""


UNEVALUATED = Unevaluated()


@dataclass(frozen=True, slots=True)
class Misfit:
    """An expression that a field cannot take: what was expected, what was found, and why they do not match.

    ``found`` is the value, the length of a list, or the diagnostic of a name without a value. ``place`` is the part of
    the expression at fault, if it is not all of it. ``in_chain`` means that other words follow in a chain.
    """

    reason: Reason
    expected: FieldType
    expr: tree.Expr
    found: Any = UNEVALUATED
    place: Span | None = None
    in_chain: bool = False

    @property
    def span(self) -> Span:
        return self.place or self.expr.span


@dataclass(frozen=True, slots=True)
class BoundViolation:
    """A value out of the bounds of its field ("" if the whole record is at fault), and the bound as a phrase."""

    field: str
    reason: str
    rejected: Any
