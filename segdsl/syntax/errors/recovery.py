"""Error recovery: the diagnosis of a token that does not fit, and the point where parsing resumes."""

from __future__ import annotations

from collections.abc import Iterator

from segdsl.diagnostics import Diagnostic
from segdsl.syntax.line_ends import NEWLINE, measure_line_indent
from segdsl.syntax.table import load_table
from segdsl.syntax.tokens import END, ERROR, Token

Rows = list[dict[str, int]]
STATEMENTS = ("block_statement", "statement")


def find_statement_levels(rows: Rows, states: list[int]) -> Iterator[tuple[int, str]]:
    """Yield the stack depths at which a statement may start, innermost first, each with the kind of statement."""
    for low in range(len(states) - 1, -1, -1):
        row = rows[states[low]]
        for symbol in STATEMENTS:
            if symbol in row:
                yield low, symbol


def diagnose_unexpected_token(
    rows: Rows, states: list[int], starts: list[int], tokens: list[Token], at: int, name: str
) -> Diagnostic | None:
    """Return the diagnostic for ``tokens[at]``, which does not fit, or None if it has been reported already."""
    # Lexer and bracket repair report an ERROR token when they make it.
    if tokens[at].kind == ERROR:
        return None
    # Imported here, because a valid file should not pay for the patterns of mistakes.
    from segdsl.syntax.errors.diagnose import diagnose_problem
    from segdsl.syntax.errors.parse_error import Problem

    low, symbol = next(find_statement_levels(rows, states), (0, ""))
    start = starts[low] if low < len(starts) else at
    stack = _replay_tokens(rows, states[: low + 1], tokens[start:at]) or states
    terminals = {kind for kind in rows[stack[-1]] if not kind.islower()}
    expected = frozenset(kind for kind in terminals if _accepts_token(rows, stack, kind))
    return diagnose_problem(Problem(name, tokens, at, start, expected, symbol))


def _replay_tokens(rows: Rows, stack: list[int], tokens: list[Token]) -> list[int] | None:
    """Return the stack right after the last of ``tokens`` was shifted, or None if one of them does not fit."""
    # The unexpected token may have caused reductions before the parser noticed it, and the stack after those expects
    # less than was really possible. Replaying the statement without it gives the full set of expected tokens.
    rules = load_table().rules
    for token in tokens:
        while (action := rows[stack[-1]].get(token.kind)) is not None and action < 0:
            rule = rules[~action]
            if rule.length:
                del stack[-rule.length :]
            stack.append(rows[stack[-1]][rule.origin])
        if action is None:
            return None
        stack.append(action)
    return stack


def _accepts_token(rows: Rows, states: list[int], kind: str) -> bool:
    """Return whether a token of ``kind`` could come next, by running the table without values."""
    rules = load_table().rules
    stack = list(states)
    while (action := rows[stack[-1]].get(kind)) is not None:
        if action >= 0:
            return True
        rule = rules[~action]
        if rule.length:
            del stack[-rule.length :]
        stack.append(rows[stack[-1]][rule.origin])
    return kind == END and not rows[stack[-1]]


def find_resume_point(
    rows: Rows, states: list[int], starts: list[int], tokens: list[Token], at: int
) -> tuple[int, str, int] | None:
    """Return where to resume: the stack depth to unwind to, the symbol to push there, and the index of the next token.

    Returns None if parsing cannot continue. The body of a section or block with a broken head is still parsed.
    """
    # Innermost first: an error in a nested statement should cost that statement only, not the block around it.
    stop = at
    while stop < len(tokens):
        for low, symbol in find_statement_levels(rows, states):
            start = starts[low] if low < len(starts) else at
            end, head = _skip_statement(tokens, start, stop, symbol)
            if _accepts_token(rows, [*states[: low + 1], rows[states[low]][head]], tokens[end].kind):
                return low, head, end
        stop = _skip_statement(tokens, at, stop, "")[0] + 1
    return None


def _skip_statement(tokens: list[Token], start: int, at: int, symbol: str) -> tuple[int, str]:
    """Return the end of the statement that began at ``start``, searched from ``at``, and the symbol to replace it."""
    # A statement ends before a line that is not indented further than its own first line.
    depth, indent = 0, measure_line_indent(tokens, start)
    while (kind := tokens[at].kind) != END:
        if kind == NEWLINE and not depth and measure_line_indent(tokens, at + 1) <= indent:
            break
        if kind == "LBRACE":
            if symbol == "statement" and not depth and (head := _classify_head(tokens, start, at)):
                return at, head
            depth += 1
        elif kind == "RBRACE":
            if not depth:
                break
            depth -= 1
        at += 1
    return at, symbol


def _classify_head(tokens: list[Token], start: int, brace: int) -> str:
    """Return the symbol of the head that ends at ``brace``: `block_head`, `section_head`, or "" for neither."""
    # The keyword may be missing (`Head() {`): a body that starts with a tensor declaration is still a block.
    if tokens[start].kind in ("BLOCK", "MODEL") or tokens[brace + 1].kind in ("IN", "PARAM", "OUT"):
        return "block_head"
    return "" if any(t.kind == "EQUAL" for t in tokens[start:brace]) else "section_head"
