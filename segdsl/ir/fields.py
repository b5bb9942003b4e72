"""Types of fields that several records share: bounded numbers and names."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Gt, Le
from pydantic import AfterValidator

from segdsl.ir.labels import has_control_character


def _validate_name(value: str) -> str:
    """Validate that a name is not blank and has no control characters."""
    if not value.strip():
        raise ValueError("must not be empty")
    if has_control_character(value):
        raise ValueError("must not contain line breaks or other control characters")
    return value


PositiveInt = Annotated[int, Gt(0)]
NaturalInt = Annotated[int, Ge(0)]
PositiveFloat = Annotated[float, Gt(0)]
NaturalFloat = Annotated[float, Ge(0)]
Probability = Annotated[float, Ge(0), Le(1)]
VisibleName = Annotated[str, AfterValidator(_validate_name)]
