"""What a syntax error most likely means: the mistakes that people make, each told by its pattern."""

from __future__ import annotations

from segdsl.diagnostics import Diagnostic
from segdsl.syntax.errors.diagnose_statements import STATEMENT_PATTERNS
from segdsl.syntax.errors.diagnose_values import FIRST_PATTERNS, VALUE_PATTERNS
from segdsl.syntax.errors.parse_error import Problem, shown, wanted


def explain(problem: Problem) -> Diagnostic:
    """The finding for a token that fits nowhere; the first pattern that knows the mistake tells it."""
    for pattern in (*FIRST_PATTERNS, *STATEMENT_PATTERNS, *VALUE_PATTERNS):
        found = pattern(problem)
        if found is not None:
            return found
    message = f"found {shown(problem, problem.found)}, expected {wanted(problem)}"
    return problem.tell("unexpected-token", message, _remedy(problem))


def _remedy(problem: Problem) -> str:
    if problem.at == problem.start:
        return "a line begins with a name (`lr = 1e-3`, `x -> Conv(8)`) or a keyword such as `let`"
    if problem.value_expected:
        return "write a value here: a number, a text, a name, `Word(…)` or `[…]`"
    if problem.after_value and problem.found.kind == "NAME" and problem.near(1).kind == "LPAR":
        return f"what flows is written `{problem.before.text} -> {problem.found.text}(…)`"
    if problem.after_value:
        return "finish the value before it, or remove what does not belong to it"
    if problem.found.kind in ("PLUS", "MINUS", "SLASH", "COMPARE") and "ARROW" in problem.expected:
        return f"put the flow into parentheses: `(x -> A()) {problem.found.text} …`"
    return "write what is expected, or remove what stands here"
