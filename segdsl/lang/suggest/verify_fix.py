"""Verification of suggested fixes: a fix is offered only if the compiler would accept it."""

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
"""The file name of the source with a suggested text."""
BEFORE = "tried="
"""The start of that source: the parser reads whole statements only."""


def tried(found: Stop, expr: tree.Expr, frame: Frame, wanted: str, read: Callable[[tree.Expr, Frame], Any]) -> Stop:
    """Return an error without its fix if ``convert_again``, which raised it, would refuse the fix as well.

    ``fallback_help`` replaces a help text that repeats such a fix. A fix for a part of the expression is kept if all
    remaining errors have fixes of their own.
    """
    error = found.diagnostic
    # Errors inside a trial are not tried again; that would recurse.
    if error is None or error.fix is None or expr.span.file == TRIED or not frame.text(expr.span):
        return found
    fix, whole = error.fix, expr.span
    if fix.span.file != whole.file or fix.span.start < whole.start or fix.span.end > whole.end:
        return found
    text = frame.text(whole)
    corrected = text[: fix.span.start - whole.start] + fix.text + text[fix.span.end - whole.start :]
    found_errors = faults(corrected, frame, read)
    if not found_errors or (fix.span != whole and all(fault and fault.fix for fault in found_errors)):
        return found
    repeats = f"{fix.text}" in error.help and fix.span == whole
    return Stop(replace(error, fix=None, help=wanted if repeats else error.help))


def faults(text: str, frame: Frame, read: Callable[[tree.Expr, Frame], Any]) -> list[Diagnostic | None]:
    """Return what is wrong with a text in place of an expression; None stands for an error without a message."""
    source = BEFORE + text
    statement, syntax_errors = parse_override(source, TRIED)
    if syntax_errors or not isinstance(statement, tree.Assign):
        return list(syntax_errors) or [None]
    # Errors, values of lets and reported places go into copies, so that the trial leaves no trace in the program.
    sink = Sink(sources={TRIED: source})
    file = replace(frame.file, values=dict(frame.file.values))
    trial_frame = replace(frame, file=file, context=replace(frame.context, sink=sink, reported=set()))
    try:
        read(statement.value, trial_frame)
    except Stop as signal:
        return [*sink.errors, *([signal.diagnostic] if signal.diagnostic or not sink.errors else ())]
    return list(sink.errors)


def bare_frame() -> Frame:
    """Return a frame without any names, for texts outside of a program."""

    def nothing(path: tuple[str, ...], span: Span) -> Any:
        raise Stop

    context = Context(Sink(), {"B": 1, "H": 512, "W": 512}, nothing, lambda name: False)
    return Frame(context, FileScope(TRIED, Path(TRIED), tree.File(TRIED, 1, "", (), Span(TRIED, 0, 0))))
