"""Choices, such as `mode = nearest`: written as a bare name, and stored by a `let` as a string."""

from __future__ import annotations

from typing import Any

from segdsl.ir.field_type import FieldType
from segdsl.ir.word import is_bare_choice
from segdsl.lang.convert.misfit import Misfit
from segdsl.lang.elaborate.context import Frame, evaluate_expr
from segdsl.lang.elaborate.expressions import get_bare_text
from segdsl.syntax import tree


def fit_choice_or_score(expr: tree.Expr, expected: FieldType, frame: Frame) -> Any:
    """Return the choice or the class score that an expression names, or the :class:`Misfit`.

    A class score may be bare (`val.dice.road`), in quotes, or a computed string.
    """
    choice = fit_choice(expr, expected, frame)
    if not (isinstance(choice, Misfit) and choice.reason == "choice"):
        return choice
    text = get_bare_text(expr, frame)
    value = text if text is not None else evaluate_expr(expr, frame, None)
    if isinstance(value, str) and expected.scores is not None and expected.scores.matches_text(value):
        return value
    return Misfit("score", expected, expr, value)


def fit_choice(expr: tree.Expr, expected: FieldType, frame: Frame) -> Any:
    """Return the choice that an expression names, or the :class:`Misfit`.

    A choice is a bare name, or the name of a `let` whose string is one of the choices.
    """
    text = expr.name if isinstance(expr, tree.Name) else get_bare_text(expr, frame)
    if text in expected.choices:
        # Neither meaning may win silently: readers see a `let` and a choice of the same name.
        return Misfit("shadowed-choice", expected, expr) if frame.find_let(str(text)) else text
    if isinstance(expr, tree.Name) and frame.is_bound(expr.name):
        value = evaluate_expr(expr, frame, None)
        if isinstance(value, str) and value in expected.choices:
            return value
    if isinstance(expr, tree.Constant):
        value = "none" if expr.value is None else expr.value
        if value in expected.choices and (expr.value is None or not is_bare_choice(str(value))):
            return value
    return Misfit("choice", expected, expr)


def is_choice(expr: tree.Expr, choices: tuple[Any, ...], frame: Frame) -> bool:
    """Return whether an expression should be read as a choice where other values are allowed too.

    True for a string, and for a name that is a choice or not bound to another value.
    """
    if isinstance(expr, tree.Name) and expr.name not in choices:
        return not frame.is_bound(expr.name) or isinstance(evaluate_expr(expr, frame, None), str)
    return isinstance(expr, tree.Name) or (isinstance(expr, tree.Constant) and isinstance(expr.value, str))
