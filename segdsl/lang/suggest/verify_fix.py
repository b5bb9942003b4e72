"""Trying a proposed text before it is offered: what would be refused is no remedy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from segdsl.diagnostics import Diagnostic, Sink, Span
from segdsl.lang.elaborate.context import Context, Frame
from segdsl.lang.elaborate.files import FileScope
from segdsl.lang.elaborate.values import Stop
from segdsl.syntax import tree
from segdsl.syntax.parser import parse_override

TRIED = "<tried>"
"""The name of the source that a proposed text is read from."""
BEFORE = "tried="
"""What stands in that source before the text."""


def tried(found: Stop, expr: tree.Expr, frame: Frame, wanted: str, read: Callable[[tree.Expr, Frame], Any]) -> Stop:
    """The stop about an expression, without its fix where ``read``, which made it, refuses that, too.

    ``wanted`` takes the place of a help that repeats such a fix. A part of the expression may be replaced although the
    rest has faults that can be mended in their turn.
    """
    said = found.diagnostic
    if said is None or said.fix is None or expr.span.file == TRIED or not frame.text(expr.span):
        return found
    fix, whole = said.fix, expr.span
    if fix.span.file != whole.file or fix.span.start < whole.start or fix.span.end > whole.end:
        return found
    text = frame.text(whole)
    right = text[: fix.span.start - whole.start] + fix.text + text[fix.span.end - whole.start :]
    wrong = faults(right, frame, read)
    if not wrong or (fix.span != whole and all(fault and fault.fix for fault in wrong)):
        return found
    return Stop(replace(said, fix=None, help=wanted if f"{fix.text}" in said.help and fix.span == whole else said.help))


def faults(text: str, frame: Frame, read: Callable[[tree.Expr, Frame], Any]) -> list[Diagnostic | None]:
    """What is wrong with a text in the place of an expression; None for what has no words of its own."""
    source = BEFORE + text
    statement, wrong = parse_override(source, TRIED)
    if wrong or not isinstance(statement, tree.Assign):
        return list(wrong) or [None]
    sink = Sink(sources={TRIED: source})
    file = replace(frame.file, values=dict(frame.file.values))
    alone = replace(frame, file=file, context=replace(frame.context, sink=sink, reported=set()))
    try:
        read(statement.value, alone)
    except Stop as signal:
        return [*sink.errors, *([signal.diagnostic] if signal.diagnostic or not sink.errors else ())]
    return list(sink.errors)


def bare_frame() -> Frame:
    """A place in which nothing of a program is in sight."""

    def nothing(path: tuple[str, ...], span: Span) -> Any:
        raise Stop

    context = Context(Sink(), {"B": 1, "H": 512, "W": 512}, nothing, lambda name: False)
    return Frame(context, FileScope(TRIED, Path(TRIED), tree.File(TRIED, 1, "", (), Span(TRIED, 0, 0))))
