"""The formatter behind `segdsl fmt`: no options, keeps every comment, never changes the tree.

Rules: indent by two columns; break lines at 120 columns where the language allows a break; align the `=` of
consecutive one-line assignments in a body; allow one empty line in a row, and put one around sections and blocks; keep
one arrow per line in a flow that its author broke before an arrow.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from segdsl.diagnostics import SegError
from segdsl.syntax import tree
from segdsl.syntax.parser import parse
from segdsl.syntax.printer.expressions import Expressions, Source
from segdsl.syntax.printer.pretty import STEP, Doc, render

WIDTH = 120
RECURSION = 10_000
"""Python frames needed to print the deepest tree that the parser's nesting limit allows."""


def format_text(text: str, name: str = "<text>") -> str:
    """Return ``text`` formatted by the rules. Raises :class:`SegError` if it does not parse."""
    parsed = parse(text, name)
    if parsed.diagnostics:
        raise SegError(parsed.diagnostics, {name: text})
    source = Source(parsed.tokens)
    with _deep_recursion():
        formatted = _Statements(source).file(parsed.file)
        # A formatter that changes a program or drops a comment does silent damage, so every result is verified.
        again = parse(formatted, name)
        if again.diagnostics or not source.used_up or not _same(parsed.file, again.file):
            raise AssertionError(f"formatting {name} would change its meaning")
    return formatted


def _same(one: Any, other: Any) -> bool:
    """Return whether two trees are equal apart from their spans."""
    if isinstance(one, tree.Tree):
        parts = [part for part in one.parts if not part.endswith("span")]
        return type(one) is type(other) and all(_same(getattr(one, p), getattr(other, p)) for p in parts)
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


@contextmanager
def _deep_recursion() -> Iterator[None]:
    old = sys.getrecursionlimit()
    sys.setrecursionlimit(max(old, RECURSION))
    try:
        yield
    finally:
        sys.setrecursionlimit(old)


@dataclass(slots=True)
class _Item:
    """A statement ready to be laid out.

    ``comments_above`` has an empty string for each empty line; ``head`` is the text in front of the `=`, ``rest`` what
    follows; ``body`` holds the finished lines of a section or block.
    """

    above: list[str]
    head: str
    rest: Doc
    behind: str = ""
    aligned: bool = False
    apart: bool = False
    body: list[str] = field(default_factory=list)

    def lines(self, indent: int, width: int = 0) -> list[str]:
        """Return the statement's lines without the comments above; the head is padded to ``width`` columns."""
        text = " " * indent + render([self.head.ljust(width), self.rest], indent, WIDTH)
        lines = [*text.split("\n"), *self.body]
        if self.behind:
            lines[-1] += f"  {self.behind}"
        return lines

    def fits(self, indent: int, width: int) -> bool:
        text = render([self.head.ljust(width), self.rest], indent, WIDTH)
        return "\n" not in text and indent + len(text) <= WIDTH


class _Statements:
    """Formats files and bodies, consuming the tokens in order."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.expressions = Expressions(source)

    def file(self, file: tree.File) -> str:
        items = [self._header(), *(self._statement(s, 0) for s in file.body)]
        lines = self._lay_out(items, 0)
        lines += self._last_comments(0, bool(lines))
        return "\n".join(lines) + "\n"

    def _header(self) -> _Item:
        above = self.source.above()
        text = f"{self.source.word()} {self.source.word()}"
        return _Item(above, text, "", self.source.behind(), apart=True)

    def _last_comments(self, indent: int, separated: bool) -> list[str]:
        """Consume the comments between the last statement of a body and its end."""
        above = _tidy(self.source.above(), first=not separated)
        while above and not above[-1]:
            above.pop()
        return [" " * indent + line if line else "" for line in above]

    def _body(self, statements: Sequence[tree.Statement], indent: int) -> list[str]:
        """Return the lines of a body, between its `{` (already consumed) and its `}`."""
        lines = self._lay_out([self._statement(s, indent) for s in statements], indent)
        return lines + self._last_comments(indent, bool(lines))

    def _lay_out(self, items: list[_Item], indent: int) -> list[str]:
        lines: list[str] = []
        # Settings at the top level (`train.lr = …`) have unrelated heads: aligning them would only add noise.
        widths = _widths(items, indent) if indent else {}
        for number, item in enumerate(items):
            above = _tidy(item.above, first=number == 0)
            if number and items[number - 1].apart and above[:1] != [""]:
                above.insert(0, "")
            if number and item.apart and "" not in above:
                above.insert(0, "")
            lines += [" " * indent + line if line else "" for line in above]
            lines += item.lines(indent, widths.get(number, 0))
        return lines

    def _statement(self, statement: tree.Statement, indent: int) -> _Item:
        above = self.source.above()
        self.source.enter(statement.span.end)
        method = getattr(self, f"_{type(statement).__name__.lower()}")
        item: _Item = method(statement, indent)
        item.above = above
        item.behind = self.source.behind()
        return item

    # --- one method per kind of statement, found by the name of its class ---

    def _import(self, statement: tree.Import, indent: int) -> _Item:
        return self._words(4 if statement.alias else 2)

    def _extends(self, statement: tree.Extends, indent: int) -> _Item:
        return self._words(2)

    def _words(self, count: int) -> _Item:
        return _Item([], " ".join(self.source.word() for _ in range(count)), "")

    def _drop(self, statement: tree.Drop, indent: int) -> _Item:
        return _Item([], f"{self.source.word()} {self._path(statement.path)}", "")

    def _path(self, path: Sequence[tree.Ident]) -> str:
        return "".join(self.source.word() for _ in range(2 * len(path) - 1))

    def _assign(self, statement: tree.Assign, indent: int) -> _Item:
        head = self._path(statement.path)
        return _Item([], head, [" ", self.source.word(), " ", self.expressions.expr(statement.value)], aligned=True)

    def _let(self, statement: tree.Let, indent: int) -> _Item:
        return _Item([], self._keyword_and_name(), self._value(statement.value))

    def _keyword_and_name(self) -> str:
        return f"{self.source.word()} {self.source.word()}"

    def _value(self, value: tree.Expr) -> Doc:
        return [" ", self.source.word(), " ", self.expressions.expr(value)]

    def _note(self, note: tree.ShapeNote | None) -> Doc:
        return [] if note is None else [self.source.word(), " ", self.expressions.note(note)]

    def _in(self, statement: tree.In, indent: int) -> _Item:
        return _Item([], self._keyword_and_name(), self._note(statement.note))

    def _param(self, statement: tree.Param, indent: int) -> _Item:
        head = self._keyword_and_name()
        return _Item([], head, [self._note(statement.note), self._value(statement.init)])

    def _out(self, statement: tree.Out, indent: int) -> _Item:
        head = self._keyword_and_name()
        return _Item([], head, [self._note(statement.note), self._value(statement.value)])

    def _run(self, statement: tree.Run, indent: int) -> _Item:
        return _Item([], "", self.expressions.expr(statement.value))

    def _section(self, statement: tree.Section, indent: int) -> _Item:
        return self._with_body(_Item([], self._path(statement.path), " "), statement.body, indent)

    def _block(self, statement: tree.Block, indent: int) -> _Item:
        head = self._keyword_and_name()
        return self._with_body(
            _Item([], head, [self.expressions.parameters(statement.parameters), " "]), statement.body, indent
        )

    def _with_body(self, item: _Item, statements: Sequence[tree.Statement], indent: int) -> _Item:
        opening = self.source.word()
        comment = self.source.behind()
        lines = self._body(statements, indent + STEP)
        closing = self.source.word()
        item.apart = True
        if not lines and not comment:
            item.rest = [item.rest, opening, closing]
            return item
        item.rest = [item.rest, opening, f"  {comment}" if comment else ""]
        item.body = [*lines, " " * indent + closing]
        return item


def _tidy(above: list[str], first: bool) -> list[str]:
    """Keep at most one empty line in a row, and none at the top of a body (``is_first``)."""
    lines: list[str] = []
    for line in above:
        if line or (lines[-1:] != [""] if lines else not first):
            lines.append(line)
    return lines


def _widths(items: list[_Item], indent: int) -> dict[int, int]:
    """Return the head width of every aligned assignment, by its position.

    A run of aligned assignments ends at any other statement, at an empty line, and at an assignment that takes several
    lines.
    """
    single = {n for n, item in enumerate(items) if item.aligned and item.fits(indent, 0)}
    # Padding may push an assignment over the line width. It then leaves its run, which can narrow the others again;
    # each round removes at least one, so the loop ends.
    while True:
        widths: dict[int, int] = {}
        for run in _runs(items, single):
            widths.update(dict.fromkeys(run, max(len(items[n].head) for n in run)))
        too_wide = {n for n, width in widths.items() if not items[n].fits(indent, width)}
        if not too_wide:
            return widths
        single -= too_wide


def _runs(items: list[_Item], single: set[int]) -> Iterator[list[int]]:
    run: list[int] = []
    for number, item in enumerate(items):
        if run and (number not in single or "" in item.above):
            yield run
            run = []
        if number in single:
            run.append(number)
    if run:
        yield run
