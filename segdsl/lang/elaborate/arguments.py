"""Matching the arguments of a call with the parameter names of its callee."""

from __future__ import annotations

from segdsl.diagnostics import Diagnostic, Fix, Span, find_safe_replacement
from segdsl.lang.elaborate.context import Frame
from segdsl.lang.elaborate.values import EvalStop
from segdsl.lang.suggest.misplaced import suggest_argument
from segdsl.syntax import tree
from segdsl.text.plural import format_count

ArgumentExpr = tuple[tree.Expr, Frame]
"""An argument: its expression, and the frame in which to evaluate it."""


def match_arguments(call: tree.Call, names: list[str], callee: str, frame: Frame) -> dict[str, ArgumentExpr]:
    """Return the arguments of a call by name.

    Reports every unknown, repeated and surplus argument before raising :class:`EvalStop`.
    """
    bound: dict[str, ArgumentExpr] = {}
    # A flag instead of an early exit: one run of `check` should show every wrong argument of a call.
    failed = False
    for position, argument in enumerate(call.args):
        if argument.name is None:
            if position >= len(names):
                problem = (
                    "too-many-arguments",
                    f"`{callee}` takes {format_count(len(names), 'argument')}, "
                    f"but this is argument number {position + 1}",
                    "remove this argument",
                )
            else:
                bound[names[position]] = (argument.value, frame)
                continue
        elif argument.name.name not in names:
            problem = (
                "unknown-argument",
                f"`{callee}` has no argument `{argument.name.name}`",
                suggest_argument(argument.name.name, names),
            )
        elif argument.name.name in bound:
            name = argument.name.name
            problem = ("rebinding", f"argument `{name}` is passed twice", "keep only one of them")
            # The first one may have been passed by position, often by mistake for another parameter.
            if names.index(name) < position and call.args[names.index(name)].name is None:
                first = frame.get_source(bound[name][0].span)
                problem = (
                    *problem[:2],
                    f"`{first}` already sets `{name}` by position: pass it by its own name, or remove it",
                )
        else:
            bound[argument.name.name] = (argument.value, frame)
            continue
        failed = True
        span = argument.name.span if argument.name else argument.span
        frame.context.report(_argument_error(problem, span, argument, names))
    if failed:
        raise EvalStop
    return bound


def _argument_error(problem: tuple[str, str, str], span: Span, argument: tree.Argument, names: list[str]) -> Diagnostic:
    near = (
        find_safe_replacement(argument.name.name, names) if argument.name and problem[0] == "unknown-argument" else None
    )
    return Diagnostic(problem[0], problem[1], problem[2], span=span, fix=Fix(span, near) if near else None)
