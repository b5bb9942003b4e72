"""What the parser does where a token fits nowhere: what it says, and where it goes on."""

from __future__ import annotations

from collections.abc import Iterator

from segdsl.diagnostics import Diagnostic
from segdsl.syntax.lexer import END, ERROR, Token
from segdsl.syntax.line_ends import NEWLINE, line_indent
from segdsl.syntax.table import load

Rows = list[dict[str, int]]
STATEMENTS = ("block_statement", "statement")


def levels(rows: Rows, states: list[int]) -> Iterator[tuple[int, str]]:
    """The depths of the stack at which a statement may stand, the innermost first, and which kind of statement."""
    for low in range(len(states) - 1, -1, -1):
        row = rows[states[low]]
        for symbol in STATEMENTS:
            if symbol in row:
                yield low, symbol


def problem(
    rows: Rows, states: list[int], starts: list[int], tokens: list[Token], at: int, name: str
) -> Diagnostic | None:
    """The finding about the token at ``at``, which does not fit; None where the lexer or the layout has made one."""
    if tokens[at].kind == ERROR:
        return None
    from segdsl.syntax.errors.diagnose import explain  # a file without mistakes does not pay for them
    from segdsl.syntax.errors.parse_error import Problem

    low, symbol = next(levels(rows, states), (0, ""))
    start = starts[low] if low < len(starts) else at
    stack = _replayed(rows, states[: low + 1], tokens[start:at]) or states
    terminals = {kind for kind in rows[stack[-1]] if not kind.islower()}
    expected = frozenset(kind for kind in terminals if _fits(rows, stack, kind))
    return explain(Problem(name, tokens, at, start, expected, symbol))


def _replayed(rows: Rows, stack: list[int], tokens: list[Token]) -> list[int] | None:
    """The stack right after the last of ``tokens`` was shifted, before the token that does not fit had any effect:
    it may have caused reductions, after which less seems to be expected than really was. None where a mistake among
    the tokens themselves, which is reported, bars the way."""
    rules = load().rules
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


def _fits(rows: Rows, states: list[int], kind: str) -> bool:
    """Whether a token of ``kind`` could come next: the table played through without values."""
    rules = load().rules
    stack = list(states)
    while (action := rows[stack[-1]].get(kind)) is not None:
        if action >= 0:
            return True
        rule = rules[~action]
        if rule.length:
            del stack[-rule.length :]
        stack.append(rows[stack[-1]][rule.origin])
    return kind == END and not rows[stack[-1]]


def resume(
    rows: Rows, states: list[int], starts: list[int], tokens: list[Token], at: int
) -> tuple[int, str, int] | None:
    """How to go on: the depth of the stack to fall back to, the symbol to put there, and the next token.

    A statement ends where a line begins that is not indented further. What stands in the braces of a broken section or
    block is read all the same.
    """
    stop = at
    while stop < len(tokens):
        for low, symbol in levels(rows, states):
            start = starts[low] if low < len(starts) else at
            end, head = _skip(tokens, start, stop, symbol)
            if _fits(rows, [*states[: low + 1], rows[states[low]][head]], tokens[end].kind):
                return low, head, end
        stop = _skip(tokens, at, stop, "")[0] + 1
    return None


def _skip(tokens: list[Token], start: int, at: int, symbol: str) -> tuple[int, str]:
    """The end of the statement that began at ``start``, looked for from ``at``, and what it is to be taken for."""
    depth, indent = 0, line_indent(tokens, start)
    while (kind := tokens[at].kind) != END:
        if kind == NEWLINE and not depth and line_indent(tokens, at + 1) <= indent:
            break
        if kind == "LBRACE":
            if symbol == "statement" and not depth and (head := _head(tokens, start, at)):
                return at, head
            depth += 1
        elif kind == "RBRACE":
            if not depth:
                break
            depth -= 1
        at += 1
    return at, symbol


def _head(tokens: list[Token], start: int, brace: int) -> str:
    """What the tokens up to ``brace`` are the broken head of, or ""."""
    if tokens[start].kind in ("BLOCK", "MODEL") or tokens[brace + 1].kind in ("IN", "PARAM", "OUT"):
        return "block_head"
    return "" if any(t.kind == "EQUAL" for t in tokens[start:brace]) else "section_head"
