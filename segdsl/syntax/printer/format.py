"""The one printer of the language: no options, every comment kept, the same tree before and after.

Rules: two columns of indentation, lines of at most 120 columns where the language allows a break, `=` aligned in
consecutive one-line assignments of a body, at most one empty line, sections and blocks set apart by one, a flow that
its author broke before an arrow keeps one arrow on each line.
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
"""Python frames that printing the deepest tree within the parser's nesting budget may take."""


def format_text(text: str, name: str = "<text>") -> str:
    """``text`` laid out by the rules. Raises :class:`SegError` if it does not parse.

    The result is parsed again: text that would mean something else, or miss a comment, is never handed out.
    """
    parsed = parse(text, name)
    if parsed.diagnostics:
        raise SegError(parsed.diagnostics, {name: text})
    source = Source(parsed.tokens)
    with _deep_recursion():
        tidy = _Statements(source).file(parsed.file)
        again = parse(tidy, name)
        if again.diagnostics or not source.used_up or not _same(parsed.file, again.file):
            raise AssertionError(f"laying out {name} would change what it says")
    return tidy


def _same(one: Any, other: Any) -> bool:
    """Whether two trees differ in nothing but their spans."""
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
    """A statement on its way to text: the comments above it (an empty string is an empty line), what stands before its
    `=`, the rest, and the comment behind it. A statement with a body keeps that as lines."""

    above: list[str]
    head: str
    rest: Doc
    behind: str = ""
    aligned: bool = False
    apart: bool = False
    body: list[str] = field(default_factory=list)

    def lines(self, indent: int, width: int = 0) -> list[str]:
        """The statement's lines, without the comments above; ``width`` is that of the head in its run."""
        text = " " * indent + render([self.head.ljust(width), self.rest], indent, WIDTH)
        lines = [*text.split("\n"), *self.body]
        if self.behind:
            lines[-1] += f"  {self.behind}"
        return lines

    def fits(self, indent: int, width: int) -> bool:
        text = render([self.head.ljust(width), self.rest], indent, WIDTH)
        return "\n" not in text and indent + len(text) <= WIDTH


class _Statements:
    """Prints files and bodies; the tokens are used up in order, so that none can be lost."""

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
        """The comments between the last statement of a body and its end."""
        above = _tidy(self.source.above(), first=not separated)
        while above and not above[-1]:
            above.pop()
        return [" " * indent + line if line else "" for line in above]

    def _body(self, statements: Sequence[tree.Statement], indent: int) -> list[str]:
        """The lines of a body, after its `{` has been used up and up to its `}`."""
        lines = self._lay_out([self._statement(s, indent) for s in statements], indent)
        return lines + self._last_comments(indent, bool(lines))

    def _lay_out(self, items: list[_Item], indent: int) -> list[str]:
        lines: list[str] = []
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

    # --- one method for each kind of statement ---

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
    """Comments and empty lines above a statement: one empty line at most in a row, none at the top of a body."""
    lines: list[str] = []
    for line in above:
        if line or (lines[-1:] != [""] if lines else not first):
            lines.append(line)
    return lines


def _widths(items: list[_Item], indent: int) -> dict[int, int]:
    """The width of the head of every assignment, by its number, so that the `=` of a run stand below each other. A run
    ends at another kind of statement, at an empty line, and at an assignment that takes several lines."""
    single = {n for n, item in enumerate(items) if item.aligned and item.fits(indent, 0)}
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
