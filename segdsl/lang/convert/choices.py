"""Choices, such as `mode = nearest`: written as a bare name, and stored by a `let` as a string."""

from __future__ import annotations

from typing import Any

from segdsl.diagnostics import Label, Span, find_closest_name, match_name
from segdsl.ir.monitor import ClassScore
from segdsl.ir.values import quote_string
from segdsl.ir.word import format_choice, is_bare_choice, list_choice_forms
from segdsl.lang.elaborate.context import Frame, evaluate_expr
from segdsl.lang.elaborate.expressions import get_dotted_parts
from segdsl.lang.elaborate.values import EvalStop, eval_error
from segdsl.syntax import tree


def read_member_or_score(expr: tree.Expr, choices: tuple[Any, ...], scores: ClassScore, frame: Frame) -> Any:
    """Return the choice or the class score that an expression names.

    A class score may be bare (`val.dice.road`), in quotes, or a computed string. Raises :class:`EvalStop` if the
    expression names neither.
    """
    parts = get_dotted_parts(expr)
    bound = isinstance(expr, tree.Name) and (expr.name in frame.list_local_names() or expr.name in frame.file.lets)
    value = ".".join(parts) if parts and not bound else evaluate_expr(expr, frame, None)
    if isinstance(value, str) and scores.matches_text(value):
        return value
    of_class = _suggest_class_score(value, scores, expr.span, frame)
    if of_class:
        message = f"`{value}` is not a score"
        raise eval_error(
            "unknown-member", expr.span, message, f"to monitor this class, write `{of_class}`", fix=of_class
        )
    return read_member(expr, choices, frame, scores.list_forms())


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


def read_member(expr: tree.Expr, choices: tuple[Any, ...], frame: Frame, other_choices: tuple[str, ...] = ()) -> Any:
    """Return the choice that an expression names: as a bare name, or by a `let` whose string is one of them.

    ``other_choices`` are only listed in the message. Raises :class:`EvalStop` if the expression is none of the choices,
    or ambiguous.
    """
    parts = get_dotted_parts(expr)
    text = ".".join(parts) if parts else None
    if text in choices:
        # Neither meaning may win silently: readers see a `let` and a choice of the same name.
        let = _find_let(text, frame)
        if let is not None:
            raise eval_error(
                "let-shadows-member",
                expr.span,
                f"`{text}` is ambiguous: it is both a choice of this setting and a `let`",
                "rename the `let`",
                labels=[Label(let.name.span, "`let` defined here")],
            )
        return text
    if isinstance(expr, tree.Name) and (expr.name in frame.list_local_names() or expr.name in frame.file.lets):
        value = evaluate_expr(expr, frame, None)
        if isinstance(value, str) and value in choices:
            return value
        text = None
    if isinstance(expr, tree.Constant) and expr.value is None and "none" in choices:
        return "none"
    if isinstance(expr, tree.Constant) and expr.value in choices:
        if not is_bare_choice(str(expr.value)):
            return expr.value
        raise eval_error(
            "quoted-member",
            expr.span,
            f'"{expr.value}" is a string, but this setting takes a bare name',
            f"remove the quotes: `{expr.value}`",
            fix=str(expr.value),
        )
    if text is None and isinstance(expr, tree.Constant) and expr.value is not None:
        text = str(expr.value).lower()
    # From here on the expression is wrong; its text serves to find what was probably meant.
    prefix, colon, _ = (text or "").partition(":")
    alike = [format_choice(k) for k in choices if colon and str(k).startswith(f"{prefix}:")]
    listing = ", ".join(f"`{k}`" for k in alike or (*list_choice_forms(str(k) for k in choices), *other_choices))
    near = _find_nearest_choice(text, [str(k) for k in choices]) if text else None
    near = format_choice(near) if near else None
    raise eval_error(
        "unknown-member",
        expr.span,
        f"`{text}` is not one of {listing}" if text else f"expected one of {listing}",
        f"did you mean `{near}`?" if near else f"choose one of {listing}",
        fix=near,
    )


def _find_nearest_choice(text: str, choices: list[str]) -> str | None:
    # The part before the last dot is compared apart: by letters alone, `val.foreground.iou` is as near to
    # `val.foreground.dice` as to `val.foreground.miou`, and the common head outweighs the name that matters.
    head, dot, name = text.rpartition(".")
    beside = {k.rpartition(".")[2]: k for k in choices if k.rpartition(".")[0] == head}
    if not dot or not beside:
        return find_closest_name(text, choices)
    near = match_name(text, choices) or beside.get(find_closest_name(name, beside) or "") or match_name(name, choices)
    return beside.get((near or "").rpartition(".")[2], near)


def _find_let(name: str | None, frame: Frame) -> tree.Let | None:
    body = frame.block.tree.body if frame.block else ()
    own = (s for s in body if isinstance(s, tree.Let) and s.name.name == name)
    return next(own, frame.file.lets.get(name or ""))


def is_choice(expr: tree.Expr, choices: tuple[Any, ...], frame: Frame) -> bool:
    """Return whether an expression should be read as a choice where other values are allowed too.

    True for a string, and for a name that is a choice or not bound to another value.
    """
    if isinstance(expr, tree.Name) and expr.name not in choices:
        named = expr.name in frame.list_local_names() or expr.name in frame.file.lets
        return not named or isinstance(evaluate_expr(expr, frame, None), str)
    return isinstance(expr, tree.Name) or (isinstance(expr, tree.Constant) and isinstance(expr.value, str))
