"""Members of a set of choices (`mode = nearest`): written bare, and held by a `let` as text."""

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
    """The one of ``known`` that an expression names, or the score of a class: bare, in quotes, or a text that is worked
    out. Raises :class:`Stop` where it is neither."""
    parts = dotted(expr)
    bound = isinstance(expr, tree.Name) and (expr.name in frame.local_names() or expr.name in frame.file.lets)
    value = ".".join(parts) if parts and not bound else evaluate(expr, frame, None)
    if isinstance(value, str) and scores.names(value):
        return value
    of_class = _score_of_class(value, scores, expr.span, frame)
    if of_class:
        message = f"`{value}` is no score; the class has one"
        raise stop("unknown-member", expr.span, message, f"write `{of_class}`", fix=of_class)
    return member(expr, known, frame, scores.spelled())


def _score_of_class(text: Any, scores: ClassScore, asked: Span, frame: Frame) -> str:
    """The score that `val.road` means where `road` is a class; "" for another text."""
    head, dot, name = text.partition(".") if isinstance(text, str) else ("", "", "")
    if not dot or not scores.heads[0].startswith(f"{head}."):
        return ""
    try:
        classes = frame.context.resolve(("data", "classes"), asked)
    except Stop:
        return ""
    right = f"{scores.heads[0]}.{name}"
    return "" if name not in classes else right if name.isidentifier() else quoted(right)


def member(expr: tree.Expr, known: tuple[Any, ...], frame: Frame, others: tuple[str, ...] = ()) -> Any:
    """The one of ``known`` that an expression names: bare, or by a `let` that holds it as text.

    Raises :class:`Stop` where it is none of them, or could be something else; ``others`` are what is accepted besides.
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
    if isinstance(expr, tree.Constant) and expr.value is None and "none" in known:
        return "none"
    if isinstance(expr, tree.Constant) and expr.value in known:
        raise stop(
            "quoted-member",
            expr.span,
            f'"{expr.value}" is a choice, not a text',
            f"write `{expr.value}` without quotes",
            fix=str(expr.value),
        )
    if text is None and isinstance(expr, tree.Constant) and expr.value is not None:
        text = str(expr.value).lower()
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
    """The one of ``known`` that is meant: what stands before the last dot is no likeness of two names."""
    head, dot, name = text.rpartition(".")
    beside = {k.rpartition(".")[2]: k for k in known if k.rpartition(".")[0] == head}
    if not dot or not beside:
        return nearest(text, known)
    near = called(text, known) or beside.get(nearest(name, beside) or "") or called(name, known)
    return beside.get((near or "").rpartition(".")[2], near)


def _let_called(name: str | None, frame: Frame) -> tree.Let | None:
    """The `let` of this name in the block or the file of ``frame``."""
    body = frame.block.tree.body if frame.block else ()
    own = (s for s in body if isinstance(s, tree.Let) and s.name.name == name)
    return next(own, frame.file.lets.get(name or ""))


def is_choice(expr: tree.Expr, known: tuple[Any, ...], frame: Frame) -> bool:
    """Whether an expression means one of ``known`` where another value could stand too: it is a name that no `let` has,
    or a text."""
    if isinstance(expr, tree.Name) and expr.name not in known:
        named = expr.name in frame.local_names() or expr.name in frame.file.lets
        return not named or isinstance(evaluate(expr, frame, None), str)
    return isinstance(expr, tree.Name) or (isinstance(expr, tree.Constant) and isinstance(expr.value, str))
