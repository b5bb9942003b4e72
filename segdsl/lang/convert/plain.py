"""Conversion of computed values to the types of fields: one small converter for each type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from segdsl.ir.field_type import FieldType
from segdsl.ir.values import Quantity, Range, Size
from segdsl.lang.convert.misfit import Misfit
from segdsl.syntax import tree


def fit_value(value: Any, expected: FieldType, expr: tree.Expr) -> Any:
    """Return a computed value as the type of a field, or the :class:`Misfit`; ``expr`` is where it comes from."""
    if expected.family is not None:
        return value if isinstance(value, expected.family) else Misfit("value", expected, expr, value)
    convert = VALUE_CONVERTERS.get(expected.base)
    converted = convert(value, expected) if convert else None
    return Misfit("value", expected, expr, value) if converted is None else converted


def is_plain_number(value: Any) -> bool:
    """Return whether a value is a number; `true` and `false` are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _convert_bool(value: Any, expected: FieldType) -> bool | None:
    return value if isinstance(value, bool) else None


def _convert_integer(value: Any, expected: FieldType) -> int | None:
    return value if isinstance(value, int) and is_plain_number(value) else None


def _convert_float(value: Any, expected: FieldType) -> float | None:
    return float(value) if is_plain_number(value) else None


def _convert_string(value: Any, expected: FieldType) -> str | None:
    return value if isinstance(value, str) else None


def _convert_size(value: Any, expected: FieldType) -> Size | None:
    return value if isinstance(value, Size) else None


def _convert_quantity(value: Any, expected: FieldType) -> Quantity | None:
    return value if isinstance(value, Quantity) and value.unit in expected.units else None


def _convert_range(value: Any, expected: FieldType) -> Range | None:
    if expected.takes_single and is_plain_number(value):
        return Range(value, value)
    if not isinstance(value, Range):
        return None
    return value if value.unit in (expected.units or (None,)) else None


VALUE_CONVERTERS: dict[Any, Callable[[Any, FieldType], Any]] = {
    bool: _convert_bool,
    int: _convert_integer,
    float: _convert_float,
    str: _convert_string,
    Size: _convert_size,
    Quantity: _convert_quantity,
    Range: _convert_range,
}
"""The type of a field -> its converter, which returns None for a value that does not fit."""
