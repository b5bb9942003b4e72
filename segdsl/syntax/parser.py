"""The parser: a loop over the LALR(1) table that reports every independent syntax error and continues after each.

Nothing here recurses, so deep nesting cannot overflow the stack; trees beyond the nesting limit are reported.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from operator import itemgetter
from typing import Any, NamedTuple

from segdsl.diagnostics import Diagnostic, Span
from segdsl.syntax import tree
from segdsl.syntax.errors.foreign_file import recognize_foreign_file
from segdsl.syntax.errors.recovery import diagnose_unexpected_token, find_resume_point
from segdsl.syntax.lexer import lex
from segdsl.syntax.line_ends import insert_newlines
from segdsl.syntax.table import load_table
from segdsl.syntax.tokens import Token
from segdsl.syntax.tree_builder import TreeBuilder, read_doc_below
from segdsl.syntax.version_header import check_header

MAX_DIAGNOSTICS = 200
"""Maximum number of diagnostics per file; a file with more is most likely not a program at all."""


class ParseResult(NamedTuple):
    """The result of parsing: ``file`` exists even if there are errors; ``tokens`` restore the text exactly."""

    file: tree.File
    diagnostics: tuple[Diagnostic, ...]
    tokens: tuple[Token, ...]


def parse(text: str, name: str) -> ParseResult:
    """Parse the text of the file ``name``.

    Never raises: each statement that does not parse is a :class:`tree.ErrorStatement` in the tree.
    """
    lexed = lex(text, name)
    run = _Parser(lexed.tokens, name, "file")
    parsed = run.parse_tokens()
    tokens = lexed.tokens
    found = check_header([*lexed.diagnostics, *run.diagnostics], tokens, parsed.version, name)
    foreign = recognize_foreign_file(text, name) if found else None
    if foreign is not None:
        found = [foreign]
    doc = read_doc_below(tokens[2]) if parsed.version is not None else ""
    file = tree.File(name, parsed.version, doc, parsed.body, Span(name, 0, len(text)))
    return ParseResult(file, _sort_diagnostics(found), tokens)


def parse_override(text: str, name: str) -> tuple[tree.Statement | None, tuple[Diagnostic, ...]]:
    """Parse one `--set` option: `path=value` or `drop path`.

    Returns the statement and no diagnostics, or None and the first error. ``name`` is the file name for the spans.
    """
    lexed = lex(text, name)
    run = _Parser(lexed.tokens, name, "override")
    statement = run.parse_tokens()
    found = _sort_diagnostics([*lexed.diagnostics, *run.diagnostics])[:1]
    return (None if found else statement), found


def _sort_diagnostics(found: list[Diagnostic]) -> tuple[Diagnostic, ...]:
    return tuple(sorted(found, key=lambda d: d.span.start if d.span else 0)[:MAX_DIAGNOSTICS])


class Production(NamedTuple):
    """A rule in the form that the loop needs.

    ``pick_children`` selects the arguments of the action from the list of all children plus a trailing None, which
    stands for optional parts that are absent. If ``action`` is "", the child at index ``child`` passes through.
    """

    origin: str
    length: int
    action: str
    child: int
    pick_children: Callable[[list[Any]], tuple[Any, ...]]


@lru_cache(maxsize=1)
def _load_productions() -> tuple[Production, ...]:
    return tuple(
        Production(r.origin, r.length, r.action, r.picks[0], _make_picker(r.picks)) for r in load_table().rules
    )


def _make_picker(picks: tuple[int, ...]) -> Callable[[list[Any]], tuple[Any, ...]]:
    first, *rest = picks
    if rest:
        return itemgetter(first, *rest)
    return lambda values: (values[first],)


_UNIT_REDUCTIONS: dict[tuple[int, int, str], int] = {}
"""Cache for chains of unit reductions: (state below, state, terminal) -> final state."""


class _Parser:
    """One pass over one text. ``values[n]`` belongs to ``states[n + 1]`` and starts at token ``starts[n]``."""

    def __init__(self, tokens: tuple[Token, ...], name: str, start: str) -> None:
        self.name = name
        self.tokens, self.diagnostics = insert_newlines(tokens, name)
        table = load_table()
        self.rows = table.states
        self.states = [table.starts[start]]
        self.final = self.rows[self.states[0]][start]
        self.values: list[Any] = []
        self.starts: list[int] = []
        self.index = 0

    def parse_tokens(self) -> Any:
        """Return the value of the start symbol, or None for a `--set` option with an error."""
        while not self._run_until_error():
            if not self._recover_from_error():
                return None
        return self.values[0]

    def _run_until_error(self) -> bool:
        """Shift and reduce until the end of the text (True) or a token that does not fit (False)."""
        # The hot loop of the parser: everything is in local variables, and token fields are read by index.
        rows, productions, tokens, unit_reductions = self.rows, _load_productions(), self.tokens, _UNIT_REDUCTIONS
        states, values, starts, at = self.states, self.values, self.starts, self.index
        reducer = TreeBuilder(self.name, self.diagnostics.append)
        makers = [getattr(reducer, p.action) if p.action else None for p in productions]
        name, new, end = self.name, tuple.__new__, tokens[at - 1].end
        token = tokens[at]
        kind = token[0]
        while True:
            state = states[-1]
            action = rows[state].get(kind)
            if action is None:
                self.index = at
                return state == self.final
            # The table encodes a shift to state n as n, and a reduction by rule n as ~n, which is negative.
            if action >= 0:
                states.append(action)
                values.append(token)
                starts.append(at)
                end = token[3]
                at += 1
                token = tokens[at]
                kind = token[0]
                continue
            origin, length, _, only, pick = productions[~action]
            make = makers[~action]
            if length == 1:
                below = states[-2]
                if make is None:
                    # A plain number passes through a dozen levels of precedence; the cache skips all of them at once.
                    key = (below, state, kind)
                    states[-1] = (
                        unit_reductions[key]
                        if key in unit_reductions
                        else self._skip_unit_reductions(below, state, kind)
                    )
                    continue
                states[-1] = rows[below][origin]
                values[-1] = make(new(Span, (name, tokens[starts[-1]][2], end)), *pick([values[-1], None]))
                continue
            if not length:
                states.append(rows[state][origin])
                values.append(make(Span(name, 0, 0), None) if make else None)
                starts.append(at)
                continue
            children = values[-length:]
            if make is None:
                value = children[only]
            else:
                children.append(None)
                value = make(new(Span, (name, tokens[starts[-length]][2], end)), *pick(children))
            del states[-length:], values[1 - length :], starts[1 - length :]
            values[-1] = value
            states.append(rows[states[-1]][origin])

    def _skip_unit_reductions(self, below: int, state: int, kind: str) -> int:
        """Return the state after all reductions that only pass their single child on, with ``kind`` as lookahead."""
        rows, productions = self.rows, _load_productions()
        first = state
        while (action := rows[state].get(kind)) is not None and action < 0:
            production = productions[~action]
            if production.action or production.length != 1:
                break
            state = rows[below][production.origin]
        _UNIT_REDUCTIONS[below, first, kind] = state
        return state

    def _recover_from_error(self) -> bool:
        """Report the error and replace its statement by an error node; return False if parsing cannot continue."""
        at = self.index
        found = diagnose_unexpected_token(self.rows, self.states, self.starts, self.tokens, at, self.name)
        if found is not None:
            self.diagnostics.append(found)
        resume_point = find_resume_point(self.rows, self.states, self.starts, self.tokens, at)
        if resume_point is None:
            return False
        low, symbol, stop = resume_point
        start = self.starts[low] if low < len(self.starts) else at
        del self.states[low + 1 :], self.values[low:], self.starts[low:]
        span = Span(self.name, self.tokens[start].start, max(self.tokens[start].start, self.tokens[stop - 1].end))
        # As if the table had just reduced the skipped tokens to a whole statement.
        self.states.append(self.rows[self.states[-1]][symbol])
        self.values.append(tree.ErrorStatement(span))
        self.starts.append(start)
        self.index = stop
        return True
