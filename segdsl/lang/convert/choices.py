"""Choices, such as `mode = nearest`: written as a bare name, and stored by a `let` as a string."""

from __future__ import annotations

from typing import Any

from segdsl.diagnostics import Label, Span, called, nearest
from segdsl.ir.monitor import ClassScore
from segdsl.ir.values import quoted
from segdsl.lang.elaborate.context import Frame, evaluate
from segdsl.lang.elaborate.expressions import dotted
from segdsl.lang.elaborate.values import Stop, stop
from segdsl.syntax import tree


def member_or_score(expr: tree.Expr, known: tuple[Any, ...], scores: ClassScore, frame: Frame) -> Any:
    """Return the choice or the class score that an expression names.

    A class score may be bare (`val.dice.road`), in quotes, or a computed string. Raises :class:`EvalStop` if the
    expression names neither.
    """
    parts = dotted(expr)
    bound = isinstance(expr, tree.Name) and (expr.name in frame.local_names() or expr.name in frame.file.lets)
    value = ".".join(parts) if parts and not bound else evaluate(expr, frame, None)
    if isinstance(value, str) and scores.names(value):
        return value
    of_class = _score_of_class(value, scores, expr.span, frame)
    if of_class:
        message = f"`{value}` is not a score"
        raise stop("unknown-member", expr.span, message, f"to monitor this class, write `{of_class}`", fix=of_class)
    return member(expr, known, frame, scores.spelled())


def _score_of_class(text: Any, scores: ClassScore, asked: Span, frame: Frame) -> str:
    """Return the score that `val.road` means if `road` is a class, otherwise ""."""
    head, separator, name = text.partition(".") if isinstance(text, str) else ("", "", "")
    if not separator or not scores.heads[0].startswith(f"{head}."):
        return ""
    try:
        classes = frame.context.resolve(("data", "classes"), asked)
    except Stop:
        # Reported where the classes are read; without them there is nothing to suggest.
        return ""
    full_name = f"{scores.heads[0]}.{name}"
    return "" if name not in classes else full_name if name.isidentifier() else quoted(full_name)


def member(expr: tree.Expr, known: tuple[Any, ...], frame: Frame, others: tuple[str, ...] = ()) -> Any:
    """Return the choice that an expression names: as a bare name, or by a `let` whose string is one of them.

    ``other_choices`` are only listed in the message. Raises :class:`EvalStop` if the expression is none of the choices,
    or ambiguous.
    """
    parts = dotted(expr)
    text = ".".join(parts) if parts else None
    if text in known:
        # Neither meaning may win silently: readers see a `let` and a choice of the same name.
        let = _let_called(text, frame)
        if let is not None:
            raise stop(
                "let-shadows-member",
                expr.span,
                f"`{text}` is ambiguous: it is both a choice of this setting and a `let`",
                "rename the `let`",
                labels=[Label(let.name.span, "`let` defined here")],
            )
        return text
    if isinstance(expr, tree.Name) and (expr.name in frame.local_names() or expr.name in frame.file.lets):
        value = evaluate(expr, frame, None)
        if isinstance(value, str) and value in known:
            return value
        text = None
    if isinstance(expr, tree.Constant) and expr.value is None and "none" in known:
        return "none"
    if isinstance(expr, tree.Constant) and expr.value in known:
        raise stop(
            "quoted-member",
            expr.span,
            f'"{expr.value}" is a string, but this setting takes a bare name',
            f"remove the quotes: `{expr.value}`",
            fix=str(expr.value),
        )
    if text is None and isinstance(expr, tree.Constant) and expr.value is not None:
        text = str(expr.value).lower()
    # From here on the expression is wrong; its text serves to find what was probably meant.
    listing = ", ".join(f"`{k}`" for k in (*known, *others))
    near = _near(text, [str(k) for k in known]) if text else None
    raise stop(
        "unknown-member",
        expr.span,
        f"`{text}` is not one of {listing}" if text else f"expected one of {listing}",
        f"did you mean `{near}`?" if near else f"choose one of {listing}",
        fix=near,
    )


def _near(text: str, known: list[str]) -> str | None:
    # The part before the last dot is compared apart: by letters alone, `val.foreground.iou` is as near to
    # `val.foreground.dice` as to `val.foreground.miou`, and the common head outweighs the name that matters.
    head, dot, name = text.rpartition(".")
    beside = {k.rpartition(".")[2]: k for k in known if k.rpartition(".")[0] == head}
    if not dot or not beside:
        return nearest(text, known)
    near = called(text, known) or beside.get(nearest(name, beside) or "") or called(name, known)
    return beside.get((near or "").rpartition(".")[2], near)


def _let_called(name: str | None, frame: Frame) -> tree.Let | None:
    body = frame.block.tree.body if frame.block else ()
    own = (s for s in body if isinstance(s, tree.Let) and s.name.name == name)
    return next(own, frame.file.lets.get(name or ""))


def is_choice(expr: tree.Expr, known: tuple[Any, ...], frame: Frame) -> bool:
    """Return whether an expression should be read as a choice where other values are allowed too.

    True for a string, and for a name that is a choice or not bound to another value.
    """
    if isinstance(expr, tree.Name) and expr.name not in known:
        named = expr.name in frame.local_names() or expr.name in frame.file.lets
        return not named or isinstance(evaluate(expr, frame, None), str)
    return isinstance(expr, tree.Name) or (isinstance(expr, tree.Constant) and isinstance(expr.value, str))
