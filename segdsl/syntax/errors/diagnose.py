"""Diagnosis of syntax errors: the most likely mistake behind a token that does not fit."""

from __future__ import annotations

from segdsl.diagnostics import Diagnostic
from segdsl.syntax.errors.diagnose_statements import STATEMENT_PATTERNS
from segdsl.syntax.errors.diagnose_values import FIRST_PATTERNS, VALUE_PATTERNS
from segdsl.syntax.errors.parse_error import Problem, describe_expected, describe_token


def diagnose_problem(problem: Problem) -> Diagnostic:
    """Return the diagnostic for a token that does not fit, from the first pattern that recognizes the mistake."""
    # The order of the patterns is part of the diagnosis: several may match, and the more specific ones come first.
    for pattern in (*FIRST_PATTERNS, *STATEMENT_PATTERNS, *VALUE_PATTERNS):
        found = pattern(problem)
        if found is not None:
            return found
    message = f"expected {describe_expected(problem)}, found {describe_token(problem, problem.token)}"
    return problem.diagnose("unexpected-token", message, _suggest_syntax_remedy(problem))


def _suggest_syntax_remedy(problem: Problem) -> str:
    if problem.position == problem.start:
        return "begin the line with a name (`lr = 1e-3`, `x -> Conv(8)`) or a keyword such as `let`"
    if problem.needs_value:
        return "write a value here: a number, a string, a name, `Word(…)` or `[…]`"
    if problem.has_value_before and problem.token.kind == "NAME" and problem.peek(1).kind == "LPAR":
        return f"write a flow as `{problem.previous.text} -> {problem.token.text}(…)`"
    if problem.has_value_before:
        return "complete the value before it, or remove the extra text"
    if problem.token.kind in ("PLUS", "MINUS", "SLASH", "COMPARE") and "ARROW" in problem.expected:
        return f"put the flow into parentheses: `(x -> A()) {problem.token.text} …`"
    return "write what is expected, or remove this"
