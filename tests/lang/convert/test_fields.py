"""Converters decide what fits a field, and return a misfit instead of raising when it does not."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Union

import pytest

import segdsl.lang.program  # noqa: F401 - importing registers the evaluators of expressions
from segdsl.ir.field_type import read_field_type
from segdsl.ir.program import Loss, Schedule
from segdsl.ir.shape import Dim
from segdsl.ir.values import AngleRange, Duration, GraphPath, OrSingle, Quantity, Range, Size
from segdsl.lang.convert.fields import fit_expr
from segdsl.lang.convert.misfit import Misfit
from segdsl.lang.suggest.verify_fix import make_empty_frame
from segdsl.syntax.parser import parse_override
from segdsl.syntax.tree import Assign
from segdsl.words.losses import Dice

Choice = Literal["soft", "hard"]
Auto = Union[tuple[int, ...], Literal["auto"], None]


def fit_text(text: str, annotation: Any) -> Any:
    statement, errors = parse_override(f"x = {text}", "test")
    assert isinstance(statement, Assign) and not errors
    return fit_expr(statement.value, read_field_type(annotation), make_empty_frame())


@pytest.mark.parametrize(
    ("text", "annotation", "value"),
    [
        ("true", bool, True),
        ("3", int, 3),
        ("3", float, 3.0),
        ('"a"', str, "a"),
        ("3x4", Size, Size(3, 4)),
        ("5 epochs", Duration, Quantity(5, "epochs")),
        ("0.2..1.0", Range, Range(0.2, 1.0)),
        ("-5 deg..5 deg", AngleRange, Range(-5, 5, "deg")),
        ("7", Annotated[Range, OrSingle()], Range(7, 7)),
        ("backbone.stem", GraphPath, "backbone.stem"),
        ("hard", Choice, "hard"),
        ("auto", Auto, "auto"),
        ("[1, 2]", Auto, (1, 2)),
        ("none", Auto, None),
        ("range(2)", tuple[int | Dim, ...], (0, 1)),
        ("Dice()", Loss, Dice()),
        ("if true then 1 else 2", int, 1),
    ],
)
def test_a_value_that_fits(text: str, annotation: Any, value: Any) -> None:
    assert fit_text(text, annotation) == value


@pytest.mark.parametrize(
    ("text", "annotation", "reason", "found"),
    [
        ("1", bool, "value", 1),
        ("1.5", int, "value", 1.5),
        ("true", float, "value", True),
        ("5", Duration, "value", 5),
        ("5 deg", Duration, "value", Quantity(5, "deg")),
        ("0..1", AngleRange, "value", Range(0, 1)),
        ("3 * 4", Size, "product", None),
        ("[1, 2]", tuple[int, int, int], "length", 2),
        ("1", tuple[int, ...], "not-a-list", 1),
        ("[1, none]", tuple[int, ...], "value", None),
        ("a.b", tuple[GraphPath, ...], "single-path", None),
        ("soft_", Choice, "choice", None),
        ("Dice()", tuple[Loss, ...], "single-word", None),
        ("Dice", Loss, "word", None),
        ("AdamW()", Loss, "call", None),
        ("Poly() -> Poly() as a", tuple[Schedule, ...], "chain-step", None),
    ],
)
def test_a_misfit_says_why(text: str, annotation: Any, reason: str, found: Any) -> None:
    misfit = fit_text(text, annotation)
    assert isinstance(misfit, Misfit) and misfit.reason == reason
    assert found is None or misfit.found == found
