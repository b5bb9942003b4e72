"""Diagnostics for choices and scores that do not exist, are in quotes, or share their name with a `let`."""

from __future__ import annotations

from typing import Any

from segdsl.diagnostics import Diagnostic, Fix, Label, Span, find_closest_name, match_name
from segdsl.ir.field_type import FieldType
from segdsl.ir.monitor import ClassScore
from segdsl.ir.values import quote_string
from segdsl.ir.word import format_choice, list_choice_forms
from segdsl.lang.convert.misfit import Misfit
from segdsl.lang.elaborate.context import Frame
from segdsl.lang.elaborate.expressions import get_bare_text
from segdsl.lang.elaborate.values import EvalStop
from segdsl.syntax import tree


def explain_score(misfit: Misfit, frame: Frame) -> Diagnostic:
    """Return the error for a value that is neither a choice nor the score of a class."""
    scores = misfit.expected.scores
    assert scores is not None
    of_class = _suggest_class_score(misfit.found, scores, misfit.span, frame)
    if not of_class:
        return explain_choice(misfit, frame)
    message, help = f"`{misfit.found}` is not a score", f"to monitor this class, write `{of_class}`"
    return Diagnostic("unknown-member", message, help, span=misfit.span, fix=Fix(misfit.span, of_class))


def _suggest_class_score(text: Any, scores: ClassScore, use_span: Span, frame: Frame) -> str:
    """Return the score that `val.road` means if `road` is a class, otherwise ""."""
    head, separator, name = text.partition(".") if isinstance(text, str) else ("", "", "")
    if not separator or not scores.heads[0].startswith(f"{head}."):
        return ""
    try:
        classes = frame.context.resolve(("data", "classes"), use_span)
    except EvalStop:
        # Reported where the classes are read; without them there is nothing to suggest.
        return ""
    full_name = f"{scores.heads[0]}.{name}"
    return "" if name not in classes else full_name if name.isidentifier() else quote_string(full_name)


def explain_shadowed_choice(misfit: Misfit, frame: Frame) -> Diagnostic:
    """Return the error for a name that is both a choice and a `let`."""
    name = misfit.expr.name if isinstance(misfit.expr, tree.Name) else ""
    let = frame.find_let(name)
    return Diagnostic(
        "let-shadows-member",
        f"`{name}` is ambiguous: it is both a choice of this setting and a `let`",
        "rename the `let`",
        span=misfit.span,
        labels=(Label(let.name.span, "`let` defined here"),) if let else (),
    )


def explain_choice(misfit: Misfit, frame: Frame) -> Diagnostic:
    """Return the error for an expression that is none of the choices of a field."""
    expr, expected = misfit.expr, misfit.expected
    text = get_bare_text(expr, frame)
    if isinstance(expr, tree.Constant) and expr.value is not None:
        if expr.value in expected.choices:
            message = f'"{expr.value}" is a string, but this setting takes a bare name'
            fix = Fix(misfit.span, str(expr.value))
            help = f"remove the quotes: `{expr.value}`"
            return Diagnostic("quoted-member", message, help, span=misfit.span, fix=fix)
        text = str(expr.value).lower()
    listing = ", ".join(f"`{form}`" for form in _list_forms(expected, text or ""))
    near = _find_nearest_choice(text, [str(choice) for choice in expected.choices]) if text else None
    near = format_choice(near) if near else None
    return Diagnostic(
        "unknown-member",
        f"`{text}` is not one of {listing}" if text else f"expected one of {listing}",
        f"did you mean `{near}`?" if near else f"choose one of {listing}",
        span=misfit.span,
        fix=Fix(misfit.span, near) if near else None,
    )


def _list_forms(expected: FieldType, text: str) -> tuple[str, ...]:
    """Return the choices as they are written; only those with the prefix of ``text`` if it has a valid one."""
    prefix, colon, _ = text.partition(":")
    alike = tuple(format_choice(one) for one in expected.choices if colon and str(one).startswith(f"{prefix}:"))
    scores = expected.scores.list_forms() if expected.scores else ()
    return alike or (*list_choice_forms(str(one) for one in expected.choices), *scores)


def _find_nearest_choice(text: str, choices: list[str]) -> str | None:
    # The part before the last dot is compared apart: by letters alone, `val.foreground.iou` is as near to
    # `val.foreground.dice` as to `val.foreground.miou`, and the common head outweighs the name that matters.
    head, dot, name = text.rpartition(".")
    beside = {k.rpartition(".")[2]: k for k in choices if k.rpartition(".")[0] == head}
    if not dot or not beside:
        return find_closest_name(text, choices)
    near = match_name(text, choices) or beside.get(find_closest_name(name, beside) or "") or match_name(name, choices)
    return beside.get((near or "").rpartition(".")[2], near)
