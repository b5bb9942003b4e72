"""What the fields of words and sections take, read once from their annotations."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, Union

from segdsl.ir.monitor import ClassScore
from segdsl.ir.values import OrSingle, PathText, Units
from segdsl.ir.word import Choices, Word


@dataclass(frozen=True, slots=True)
class FieldType:
    """What a field takes.

    ``base`` is a plain type, a family of words, `tuple` for a list, or `Literal` for a choice; ``choices`` may also
    stand beside another base (`auto` or an integer). ``items`` are the types of the elements of a list: one for all of
    them if it ``has_any_length``. ``name`` and ``default`` are those of the field, for suggestions.
    """

    base: Any
    choices: tuple[Any, ...] = ()
    scores: ClassScore | None = None
    units: tuple[str, ...] = ()
    items: tuple[FieldType, ...] = ()
    has_any_length: bool = False
    is_path: bool = False
    takes_single: bool = False
    is_optional: bool = False
    name: str = ""
    default: Any = None

    @property
    def family(self) -> type[Word] | None:
        """The family of words that the field itself takes, or None."""
        return self.base if isinstance(self.base, type) and issubclass(self.base, Word) else None


def read_field_type(annotation: Any, metadata: Iterable[Any] = ()) -> FieldType:
    """Return what a field with this annotation takes; ``metadata`` are the marks that pydantic has taken off it."""
    marks, origin = tuple(metadata), typing.get_origin(annotation)
    if origin is typing.Annotated:
        inner, *more = typing.get_args(annotation)
        return read_field_type(inner, (*more, *marks))
    if origin in (Union, types.UnionType):
        return _read_union_type(typing.get_args(annotation), marks)
    if origin is Literal:
        return FieldType(Literal, choices=typing.get_args(annotation))
    registry = next((m.registry for m in marks if isinstance(m, Choices)), None)
    if registry is not None:
        return FieldType(Literal, choices=tuple(registry))
    kinds = typing.get_args(annotation) if origin is tuple else ()
    return FieldType(
        origin or annotation,
        scores=next((m for m in marks if isinstance(m, ClassScore)), None),
        units=next((m.names for m in marks if isinstance(m, Units)), ()),
        items=tuple(read_field_type(kind) for kind in kinds if kind is not Ellipsis),
        has_any_length=Ellipsis in kinds,
        is_path=any(isinstance(m, PathText) for m in marks),
        takes_single=any(isinstance(m, OrSingle) for m in marks),
    )


def _read_union_type(kinds: tuple[Any, ...], marks: tuple[Any, ...]) -> FieldType:
    members = [read_field_type(kind, marks) for kind in kinds if kind is not type(None)]
    first = members[0]
    if {member.base for member in members} == {int, float}:
        first = replace(first, base=float)
    return replace(
        first,
        choices=tuple(choice for member in members if member.base is Literal for choice in member.choices),
        scores=next((member.scores for member in members if member.scores), None),
        is_optional=len(members) < len(kinds),
    )
