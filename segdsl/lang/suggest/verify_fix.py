"""Verification of suggested fixes: a fix is offered only if the compiler would accept it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from segdsl.diagnostics import Diagnostic, Sink, Span
from segdsl.lang.elaborate.context import Context, Frame
from segdsl.lang.elaborate.scopes import FileScope
from segdsl.lang.elaborate.values import EvalStop
from segdsl.syntax import tree
from segdsl.syntax.parser import parse_override

TRIAL_SOURCE = "<tried>"
"""The file name of the source with a suggested text."""
TRIAL_PREFIX = "tried="
"""The start of that source: the parser reads whole statements only."""


def drop_invalid_fix(
    stop: EvalStop, expr: tree.Expr, frame: Frame, fallback_help: str, convert_again: Callable[[tree.Expr, Frame], Any]
) -> EvalStop:
    """Return an error without its fix if ``convert_again``, which raised it, would refuse the fix as well.

    ``fallback_help`` replaces a help text that repeats such a fix. A fix for a part of the expression is kept if all
    remaining errors have fixes of their own.
    """
    error = stop.diagnostic
    # Errors inside a trial are not tried again; that would recurse.
    if error is None or error.fix is None or expr.span.file == TRIAL_SOURCE or not frame.get_source(expr.span):
        return stop
    fix, whole = error.fix, expr.span
    if fix.span.file != whole.file or fix.span.start < whole.start or fix.span.end > whole.end:
        return stop
    text = frame.get_source(whole)
    corrected = text[: fix.span.start - whole.start] + fix.text + text[fix.span.end - whole.start :]
    found_errors = find_faults(corrected, frame, convert_again)
    if not found_errors or (fix.span != whole and all(fault and fault.fix for fault in found_errors)):
        return stop
    repeats = f"{fix.text}" in error.help and fix.span == whole
    return EvalStop(replace(error, fix=None, help=fallback_help if repeats else error.help))


def find_faults(text: str, frame: Frame, convert_again: Callable[[tree.Expr, Frame], Any]) -> list[Diagnostic | None]:
    """Return what is wrong with a text in place of an expression; None stands for an error without a message."""
    source = TRIAL_PREFIX + text
    statement, syntax_errors = parse_override(source, TRIAL_SOURCE)
    if syntax_errors or not isinstance(statement, tree.Assign):
        return list(syntax_errors) or [None]
    # Errors, values of lets and reported places go into copies, so that the trial leaves no trace in the program.
    sink = Sink(sources={TRIAL_SOURCE: source})
    file = replace(frame.file, values=dict(frame.file.values))
    trial_frame = replace(frame, file=file, context=replace(frame.context, sink=sink, error_places=set()))
    try:
        convert_again(statement.value, trial_frame)
    except EvalStop as signal:
        return [*sink.errors, *([signal.diagnostic] if signal.diagnostic or not sink.errors else ())]
    return list(sink.errors)


def make_empty_frame() -> Frame:
    """Return a frame without any names, for texts outside of a program."""

    def refuse_path(path: tuple[str, ...], span: Span) -> Any:
        raise EvalStop

    context = Context(Sink(), {"B": 1, "H": 512, "W": 512}, refuse_path, lambda name: False)
    return Frame(
        context,
        FileScope(TRIAL_SOURCE, Path(TRIAL_SOURCE), tree.File(TRIAL_SOURCE, 1, "", (), Span(TRIAL_SOURCE, 0, 0))),
    )
