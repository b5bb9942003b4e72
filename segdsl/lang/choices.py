"""Members of a set of choices (`mode = nearest`): written bare, and held by a `let` as text."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NoReturn

from segdsl.diagnostics import Fix, Label, Span, nearest
from segdsl.lang.context import Frame, evaluate
from segdsl.lang.expressions import dotted
from segdsl.lang.values import Stop, stop
from segdsl.syntax import tree


def member(expr: tree.Expr, known: tuple[Any, ...], frame: Frame) -> Any:
    """The one of ``known`` that an expression names: bare, or by a `let` that holds it as text.

    Raises :class:`Stop` where it is none of them, or could be something else.
    """
    parts = dotted(expr)
    text = ".".join(parts) if parts else None
    if text in known:
        let = _let_called(text, frame)
        if let is not None:
            raise stop(
                "let-shadows-member",
                expr.span,
                f"`{text}` is a choice here, and a `let` has the same name",
                "rename the `let`",
                labels=[Label(let.name.span, "the `let`")],
            )
        return text
    if isinstance(expr, tree.Name) and (expr.name in frame.local_names() or expr.name in frame.file.lets):
        value = evaluate(expr, frame, None)
        if isinstance(value, str) and value in known:
            return value
        text = None
    if isinstance(expr, tree.Constant) and expr.value in known:
        raise stop(
            "quoted-member",
            expr.span,
            f'"{expr.value}" is a choice, not a text',
            f"write `{expr.value}` without quotes",
        )
    listing = ", ".join(f"`{k}`" for k in known)
    near = nearest(text, [str(k) for k in known]) if text else None
    error = stop(
        "unknown-member",
        expr.span,
        f"`{text}` is not one of {listing}" if text else f"expected one of {listing}",
        f"did you mean `{near}`?" if near else f"choose one of {listing}",
    )
    with_fix(error, expr.span, near)


def _let_called(name: str | None, frame: Frame) -> tree.Let | None:
    """The `let` of this name in the block or the file of ``frame``."""
    body = frame.block.tree.body if frame.block else ()
    own = (s for s in body if isinstance(s, tree.Let) and s.name.name == name)
    return next(own, frame.file.lets.get(name or ""))


def with_fix(error: Stop, span: Span, text: str | None) -> NoReturn:
    """Raises a stop with the text that would put it right, if there is one."""
    if text and error.diagnostic:
        error.diagnostic = replace(error.diagnostic, fix=Fix(span, text))
    raise error


def is_choice(expr: tree.Expr, known: tuple[Any, ...], frame: Frame) -> bool:
    """Whether an expression means one of ``known`` where another value could stand too: it is a name that no `let` has,
    or a text."""
    if isinstance(expr, tree.Name) and expr.name not in known:
        named = expr.name in frame.local_names() or expr.name in frame.file.lets
        return not named or isinstance(evaluate(expr, frame, None), str)
    return isinstance(expr, tree.Name) or (isinstance(expr, tree.Constant) and isinstance(expr.value, str))
