"""Tokens to tree: a loop over the LALR(1) table that reports every independent syntax error and goes on after each.

Nothing here recurses, so no text is too deep for it; trees deeper than the nesting budget are a diagnostic.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from operator import itemgetter
from typing import Any, NamedTuple

from segdsl.diagnostics import Diagnostic, Span
from segdsl.syntax import tree
from segdsl.syntax.errors.recovery import problem, resume
from segdsl.syntax.lexer import Token, lex
from segdsl.syntax.line_ends import lay_out
from segdsl.syntax.table import load
from segdsl.syntax.tree_builder import Reducer, doc_below
from segdsl.syntax.version_header import with_header

MAX_DIAGNOSTICS = 200
"""A text with more findings than this is no program; the rest goes unsaid."""


class Parsed(NamedTuple):
    """What became of a text: ``file`` is there whatever ``diagnostics`` say; ``tokens`` give the text back exactly."""

    file: tree.File
    diagnostics: tuple[Diagnostic, ...]
    tokens: tuple[Token, ...]


def parse(text: str, name: str) -> Parsed:
    """Parses a file, called ``name`` in spans. Never raises: what did not parse is a :class:`tree.Broken` there."""
    lexed = lex(text, name)
    run = _Run(lexed.tokens, name, "file")
    parsed = run.result()
    tokens = lexed.tokens
    found = with_header([*lexed.diagnostics, *run.found], tokens, parsed.version, name)
    doc = doc_below(tokens[2]) if parsed.version is not None else ""
    file = tree.File(name, parsed.version, doc, parsed.body, Span(name, 0, len(text)))
    return Parsed(file, _in_order(found), tokens)


def parse_override(text: str, name: str) -> tuple[tree.Statement | None, tuple[Diagnostic, ...]]:
    """Parses one `--set`, `path=value` or `drop path`, and says the first thing that is wrong with it, if any.

    Spans point into ``text``, in a file ``name``; there is no statement where something is wrong.
    """
    lexed = lex(text, name)
    run = _Run(lexed.tokens, name, "override")
    statement = run.result()
    found = _in_order([*lexed.diagnostics, *run.found])[:1]
    return (None if found else statement), found


def _in_order(found: list[Diagnostic]) -> tuple[Diagnostic, ...]:
    return tuple(sorted(found, key=lambda d: d.span.start if d.span else 0)[:MAX_DIAGNOSTICS])


class Production(NamedTuple):
    """A rule as the loop uses it: ``pick`` takes the children that count from a list of all with a None at its end;
    where ``action`` is "" the child at ``only`` passes through."""

    origin: str
    length: int
    action: str
    only: int
    pick: Callable[[list[Any]], tuple[Any, ...]]


@lru_cache(maxsize=1)
def _productions() -> tuple[Production, ...]:
    return tuple(Production(r.origin, r.length, r.action, r.picks[0], _picker(r.picks)) for r in load().rules)


def _picker(picks: tuple[int, ...]) -> Callable[[list[Any]], tuple[Any, ...]]:
    first, *rest = picks
    if rest:
        return itemgetter(first, *rest)
    return lambda values: (values[first],)


_HOPS: dict[tuple[int, int, str], int] = {}
"""Where a run of reductions that change nothing ends: (state below, state, terminal) -> state."""


class _Run:
    """One pass over one text. ``values[n]`` belongs to ``states[n + 1]`` and begins at the token ``starts[n]``."""

    def __init__(self, tokens: tuple[Token, ...], name: str, start: str) -> None:
        self.name = name
        self.tokens, self.found = lay_out(tokens, name)
        table = load()
        self.rows = table.states
        self.states = [table.starts[start]]
        self.final = self.rows[self.states[0]][start]
        self.values: list[Any] = []
        self.starts: list[int] = []
        self.at = 0

    def result(self) -> Any:
        """The value of the start symbol; None where an option is at fault."""
        while not self._advance():
            if not self._recover():
                return None
        return self.values[0]

    def _advance(self) -> bool:
        """Shifts and reduces until the text ends (True) or a token fits nowhere (False)."""
        rows, productions, tokens, hops = self.rows, _productions(), self.tokens, _HOPS
        states, values, starts, at = self.states, self.values, self.starts, self.at
        reducer = Reducer(self.name, self.found.append)
        makers = [getattr(reducer, p.action) if p.action else None for p in productions]
        name, new, end = self.name, tuple.__new__, tokens[at - 1].end
        token = tokens[at]
        kind = token[0]
        while True:
            state = states[-1]
            action = rows[state].get(kind)
            if action is None:
                self.at = at
                return state == self.final
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
                    key = (below, state, kind)
                    states[-1] = hops[key] if key in hops else self._hop(below, state, kind)
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

    def _hop(self, below: int, state: int, kind: str) -> int:
        """The state after all reductions that only pass their one child on, with ``kind`` to come."""
        rows, productions = self.rows, _productions()
        first = state
        while (action := rows[state].get(kind)) is not None and action < 0:
            production = productions[~action]
            if production.action or production.length != 1:
                break
            state = rows[below][production.origin]
        _HOPS[below, first, kind] = state
        return state

    def _recover(self) -> bool:
        """Reports what is wrong and puts a broken statement in its place; False where there is no way on."""
        at = self.at
        found = problem(self.rows, self.states, self.starts, self.tokens, at, self.name)
        if found is not None:
            self.found.append(found)
        way = resume(self.rows, self.states, self.starts, self.tokens, at)
        if way is None:
            return False
        low, symbol, stop = way
        start = self.starts[low] if low < len(self.starts) else at
        del self.states[low + 1 :], self.values[low:], self.starts[low:]
        span = Span(self.name, self.tokens[start].start, max(self.tokens[start].start, self.tokens[stop - 1].end))
        self.states.append(self.rows[self.states[-1]][symbol])
        self.values.append(tree.Broken(span))
        self.starts.append(start)
        self.at = stop
        return True
