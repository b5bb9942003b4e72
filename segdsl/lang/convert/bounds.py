"""Validation of the bounds that a record's fields declare, without building pydantic's validators.

Building validators for the thirty words of a typical program takes longer than checking the program. This module
applies the same `Annotated` metadata that pydantic reads. Records with validators of their own are left to pydantic.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, Literal, Union

from annotated_types import Ge, GroupedMetadata, Gt, Le, Lt, MaxLen, MinLen
from pydantic import AfterValidator, ValidationError
from pydantic.fields import FieldInfo

from segdsl.diagnostics.aliases import Aliases
from segdsl.ir.monitor import ClassScore
from segdsl.ir.values import OrSingle, PathText, Units
from segdsl.ir.word import Choices, Record, Word
from segdsl.lang.convert.misfit import BoundViolation

ValueCheck = Callable[[Any], Any]
"""Returns the value, possibly changed by a validator; raises ValueError with the reason if it is out of bounds."""


class NeedsPydantic(Exception):
    """A field declares a constraint that only pydantic can apply."""


def build_record(record: type[Record], values: dict[str, Any]) -> Any:
    """Return the record with these converted values, or the first :class:`BoundViolation`."""
    try:
        checks = _build_field_checks(record)
    except NeedsPydantic:
        return _build_with_pydantic(record, values)
    for name, value in values.items():
        check = checks[name]
        if check is not None:
            try:
                values[name] = check(value)
            except ValueError as error:
                # Two arguments come from `_check_element`: the reason, and the element of the list that is at fault.
                wrong, culprit = error.args if len(error.args) == 2 else (str(error), value)
                return BoundViolation(name, wrong, culprit)
    return record.build_unchecked(values)


def accepts_value(info: FieldInfo, value: Any) -> bool:
    """Return whether a converted value satisfies the constraints that can be read from its field's annotation."""
    try:
        check = _build_check(info.annotation, tuple(info.metadata))
        if check is not None:
            check(value)
    except ValueError:
        return False
    except NeedsPydantic:
        # Used only to test suggestions, where a wrong refusal would hide a good one.
        return True
    return True


def _build_with_pydantic(record: type[Record], values: dict[str, Any]) -> Any:
    try:
        return record(**values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0]) if first["loc"] else ""
        own = first.get("ctx", {}).get("error")
        return BoundViolation(name, str(own) if own else "is not valid here", values.get(name))


_WORD_VALIDATORS = Word.__pydantic_decorators__.model_validators


@lru_cache(maxsize=512)
def _build_field_checks(record: type[Record]) -> dict[str, ValueCheck | None]:
    decorators = record.__pydantic_decorators__
    # The validator that every word has only picks the class when a word is read from JSON; it checks no value.
    if decorators.field_validators or set(decorators.model_validators) - set(_WORD_VALIDATORS):
        raise NeedsPydantic
    return {name: _build_check(i.annotation, tuple(i.metadata)) for name, i in record.model_fields.items()}


def _build_check(kind: Any, metadata: tuple[Any, ...]) -> ValueCheck | None:
    origin = typing.get_origin(kind)
    if origin is typing.Annotated:
        inner, *more = typing.get_args(kind)
        # Inner constraints come first, as in pydantic: an outer validator may rely on the inner bound.
        return _build_check(inner, (*more, *metadata))
    inner_check: ValueCheck | None = None
    if origin in (Union, types.UnionType):
        inner_check = _build_union_check([k for k in typing.get_args(kind) if k is not type(None)])
    elif origin is tuple:
        inner_check = _build_tuple_check([k for k in typing.get_args(kind) if k is not Ellipsis])
    return _combine_checks(
        [c for c in (inner_check, *map(_build_bound_check, _flatten_metadata(metadata))) if c is not None]
    )


def _flatten_metadata(metadata: Iterable[Any]) -> Iterable[Any]:
    for item in metadata:
        yield from _flatten_metadata(item) if isinstance(item, GroupedMetadata) else (item,)


def _combine_checks(checks: list[ValueCheck]) -> ValueCheck | None:
    if len(checks) < 2:
        return checks[0] if checks else None

    def run_checks(value: Any) -> Any:
        for one in checks:
            value = one(value)
        return value

    return run_checks


def _build_union_check(kinds: list[Any]) -> ValueCheck | None:
    checks = [c for k in kinds if (c := _build_check(k, ())) is not None]
    members = {m for k in kinds if typing.get_origin(k) is Literal for m in typing.get_args(k)}
    if not checks:
        return None

    def check_member(value: Any) -> Any:
        # A choice such as `auto` stands beside a bounded type and is not subject to its bounds.
        chosen = value is None or (isinstance(value, str) and value in members)
        return value if chosen else checks[0](value)

    return check_member


def _build_tuple_check(kinds: list[Any]) -> ValueCheck | None:
    checks = [_build_check(k, ()) for k in kinds]
    if all(c is None for c in checks):
        return None
    repeats = len(checks) == 1

    def check_elements(value: tuple[Any, ...]) -> tuple[Any, ...]:
        own = checks * len(value) if repeats else checks
        return tuple(v if c is None else _check_element(c, v) for c, v in zip(own, value, strict=True))

    return check_elements


def _check_element(check: ValueCheck, value: Any) -> Any:
    try:
        return check(value)
    except ValueError as error:
        raise ValueError(str(error), value) from None


def _build_bound_check(item: Any) -> ValueCheck | None:
    # These tell `convert` how to read an expression or a name. Once it is read, they constrain nothing.
    if isinstance(item, (Aliases, Units, PathText, OrSingle, ClassScore, Choices)):
        return None
    if isinstance(item, AfterValidator):
        return typing.cast(ValueCheck, item.func)
    for kind, attribute, holds, text in _BOUNDS:
        if isinstance(item, kind):
            limit = getattr(item, attribute)
            return _make_limit_check(holds, limit, text.format(limit))
    raise NeedsPydantic


def _make_limit_check(predicate: Callable[[Any, Any], bool], limit: Any, message: str) -> ValueCheck:
    def check_limit(value: Any) -> Any:
        if not predicate(value, limit):
            raise ValueError(message)
        return value

    return check_limit


_BOUNDS: tuple[tuple[type, str, Callable[[Any, Any], bool], str], ...] = (
    (Gt, "gt", lambda v, limit: v > limit, "must be greater than {}"),
    (Ge, "ge", lambda v, limit: v >= limit, "must be at least {}"),
    (Lt, "lt", lambda v, limit: v < limit, "must be less than {}"),
    (Le, "le", lambda v, limit: v <= limit, "must be at most {}"),
    (MinLen, "min_length", lambda v, limit: len(v) >= limit, "needs at least {} elements"),
    (MaxLen, "max_length", lambda v, limit: len(v) <= limit, "takes at most {} elements"),
)
