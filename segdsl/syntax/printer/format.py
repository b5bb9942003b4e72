"""The formatter behind `segdsl fmt`: no options, keeps every comment, never changes the tree.

Rules: indent by two columns; break lines at 120 columns where the language allows a break; align the `=` of
consecutive one-line assignments in a body; allow one empty line in a row, and put one around sections and blocks; keep
one arrow per line in a flow that its author broke before an arrow.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from segdsl.diagnostics import SegError
from segdsl.syntax import tree
from segdsl.syntax.parser import parse
from segdsl.syntax.printer.expressions import ExpressionPrinter, TokenStream
from segdsl.syntax.printer.pretty import INDENT_WIDTH, Doc, render_doc

LINE_WIDTH = 120


def format_text(text: str, name: str = "<text>") -> str:
    """Return ``text`` formatted by the rules. Raises :class:`SegError` if it does not parse."""
    parsed = parse(text, name)
    if parsed.diagnostics:
        raise SegError(parsed.diagnostics, {name: text})
    source = TokenStream(parsed.tokens)
    formatted = _StatementPrinter(source).format_file(parsed.file)
    # A formatter that changes a program or drops a comment does silent damage, so every result is verified.
    again = parse(formatted, name)
    if again.diagnostics or not source.is_exhausted or not _is_same_tree(parsed.file, again.file):
        raise AssertionError(f"formatting {name} would change its meaning")
    return formatted


def _is_same_tree(one: Any, other: Any) -> bool:
    """Return whether two trees are equal apart from their spans."""
    if isinstance(one, tree.Tree):
        parts = [part for part in one.parts if not part.endswith("span")]
        return type(one) is type(other) and all(_is_same_tree(getattr(one, p), getattr(other, p)) for p in parts)
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(_is_same_tree, one, other))
    return bool(one == other)


@dataclass(slots=True)
class _StatementLayout:
    """A statement ready to be laid out.

    ``comments_above`` has an empty string for each empty line; ``head`` is the text in front of the `=`, ``rest`` what
    follows; ``body`` holds the finished lines of a section or block.
    """

    comments_above: list[str]
    head: str
    rest: Doc
    trailing_comment: str = ""
    is_aligned: bool = False
    needs_blank_lines: bool = False
    body: list[str] = field(default_factory=list)

    def format_lines(self, indent: int, width: int = 0) -> list[str]:
        """Return the statement's lines without the comments above; the head is padded to ``width`` columns."""
        text = " " * indent + render_doc([self.head.ljust(width), self.rest], indent, LINE_WIDTH)
        lines = [*text.split("\n"), *self.body]
        if self.trailing_comment:
            lines[-1] += f"  {self.trailing_comment}"
        return lines

    def fits_on_line(self, indent: int, width: int) -> bool:
        text = render_doc([self.head.ljust(width), self.rest], indent, LINE_WIDTH)
        return "\n" not in text and indent + len(text) <= LINE_WIDTH


class _StatementPrinter:
    """Formats files and bodies, consuming the tokens in order."""

    def __init__(self, source: TokenStream) -> None:
        self.source = source
        self.expressions = ExpressionPrinter(source)

    def format_file(self, file: tree.File) -> str:
        items = [self._format_header(), *(self._format_statement(s, 0) for s in file.body)]
        lines = self._lay_out_items(items, 0)
        lines += self._take_last_comments(0, bool(lines))
        return "\n".join(lines) + "\n"

    def _format_header(self) -> _StatementLayout:
        above = self.source.take_comments_above()
        text = f"{self.source.take_word()} {self.source.take_word()}"
        return _StatementLayout(above, text, "", self.source.take_trailing_comment(), needs_blank_lines=True)

    def _take_last_comments(self, indent: int, is_after_statement: bool) -> list[str]:
        """Consume the comments between the last statement of a body and its end."""
        above = _collapse_empty_lines(self.source.take_comments_above(), is_first=not is_after_statement)
        while above and not above[-1]:
            above.pop()
        return [" " * indent + line if line else "" for line in above]

    def _format_body(self, statements: Sequence[tree.Statement], indent: int) -> list[str]:
        """Return the lines of a body, between its `{` (already consumed) and its `}`."""
        lines = self._lay_out_items([self._format_statement(s, indent) for s in statements], indent)
        return lines + self._take_last_comments(indent, bool(lines))

    def _lay_out_items(self, items: list[_StatementLayout], indent: int) -> list[str]:
        lines: list[str] = []
        # Settings at the top level (`train.lr = …`) have unrelated heads: aligning them would only add noise.
        widths = _align_heads(items, indent) if indent else {}
        for number, item in enumerate(items):
            above = _collapse_empty_lines(item.comments_above, is_first=number == 0)
            if number and items[number - 1].needs_blank_lines and above[:1] != [""]:
                above.insert(0, "")
            if number and item.needs_blank_lines and "" not in above:
                above.insert(0, "")
            lines += [" " * indent + line if line else "" for line in above]
            lines += item.format_lines(indent, widths.get(number, 0))
        return lines

    def _format_statement(self, statement: tree.Statement, indent: int) -> _StatementLayout:
        above = self.source.take_comments_above()
        self.source.enter_statement(statement.span.end)
        method = getattr(self, f"_{type(statement).__name__.lower()}")
        item: _StatementLayout = method(statement, indent)
        item.comments_above = above
        item.trailing_comment = self.source.take_trailing_comment()
        return item

    # --- one method per kind of statement, found by the name of its class ---

    def _import(self, statement: tree.Import, indent: int) -> _StatementLayout:
        return self._take_words(4 if statement.alias else 2)

    def _extends(self, statement: tree.Extends, indent: int) -> _StatementLayout:
        return self._take_words(2)

    def _take_words(self, count: int) -> _StatementLayout:
        return _StatementLayout([], " ".join(self.source.take_word() for _ in range(count)), "")

    def _drop(self, statement: tree.Drop, indent: int) -> _StatementLayout:
        return _StatementLayout([], f"{self.source.take_word()} {self._take_path(statement.path)}", "")

    def _take_path(self, path: Sequence[tree.Ident]) -> str:
        return "".join(self.source.take_word() for _ in range(2 * len(path) - 1))

    def _assign(self, statement: tree.Assign, indent: int) -> _StatementLayout:
        head = self._take_path(statement.path)
        return _StatementLayout(
            [],
            head,
            [" ", self.source.take_word(), " ", self.expressions.format_expr(statement.value)],
            is_aligned=True,
        )

    def _let(self, statement: tree.Let, indent: int) -> _StatementLayout:
        return _StatementLayout([], self._take_keyword_and_name(), self._format_value(statement.value))

    def _take_keyword_and_name(self) -> str:
        return f"{self.source.take_word()} {self.source.take_word()}"

    def _format_value(self, value: tree.Expr) -> Doc:
        return [" ", self.source.take_word(), " ", self.expressions.format_expr(value)]

    def _format_note(self, note: tree.ShapeNote | None) -> Doc:
        return [] if note is None else [self.source.take_word(), " ", self.expressions.format_note(note)]

    def _in(self, statement: tree.In, indent: int) -> _StatementLayout:
        return _StatementLayout([], self._take_keyword_and_name(), self._format_note(statement.note))

    def _param(self, statement: tree.Param, indent: int) -> _StatementLayout:
        head = self._take_keyword_and_name()
        return _StatementLayout([], head, [self._format_note(statement.note), self._format_value(statement.init)])

    def _out(self, statement: tree.Out, indent: int) -> _StatementLayout:
        head = self._take_keyword_and_name()
        return _StatementLayout([], head, [self._format_note(statement.note), self._format_value(statement.value)])

    def _run(self, statement: tree.Run, indent: int) -> _StatementLayout:
        return _StatementLayout([], "", self.expressions.format_expr(statement.value))

    def _section(self, statement: tree.Section, indent: int) -> _StatementLayout:
        return self._add_body(_StatementLayout([], self._take_path(statement.path), " "), statement.body, indent)

    def _block(self, statement: tree.Block, indent: int) -> _StatementLayout:
        head = self._take_keyword_and_name()
        return self._add_body(
            _StatementLayout([], head, [self.expressions.format_parameters(statement.parameters), " "]),
            statement.body,
            indent,
        )

    def _add_body(self, item: _StatementLayout, statements: Sequence[tree.Statement], indent: int) -> _StatementLayout:
        opening = self.source.take_word()
        comment = self.source.take_trailing_comment()
        lines = self._format_body(statements, indent + INDENT_WIDTH)
        closing = self.source.take_word()
        item.needs_blank_lines = True
        if not lines and not comment:
            item.rest = [item.rest, opening, closing]
            return item
        item.rest = [item.rest, opening, f"  {comment}" if comment else ""]
        item.body = [*lines, " " * indent + closing]
        return item


def _collapse_empty_lines(comments: list[str], is_first: bool) -> list[str]:
    """Keep at most one empty line in a row, and none at the top of a body (``is_first``)."""
    lines: list[str] = []
    for line in comments:
        if line or (lines[-1:] != [""] if lines else not is_first):
            lines.append(line)
    return lines


def _align_heads(items: list[_StatementLayout], indent: int) -> dict[int, int]:
    """Return the head width of every aligned assignment, by its position.

    A run of aligned assignments ends at any other statement, at an empty line, and at an assignment that takes several
    lines.
    """
    single = {n for n, item in enumerate(items) if item.is_aligned and item.fits_on_line(indent, 0)}
    # Padding may push an assignment over the line width. It then leaves its run, which can narrow the others again;
    # each round removes at least one, so the loop ends.
    while True:
        widths: dict[int, int] = {}
        for run in _find_runs(items, single):
            widths.update(dict.fromkeys(run, max(len(items[n].head) for n in run)))
        too_wide = {n for n, width in widths.items() if not items[n].fits_on_line(indent, width)}
        if not too_wide:
            return widths
        single -= too_wide


def _find_runs(items: list[_StatementLayout], single: set[int]) -> Iterator[list[int]]:
    run: list[int] = []
    for number, item in enumerate(items):
        if run and (number not in single or "" in item.comments_above):
            yield run
            run = []
        if number in single:
            run.append(number)
    if run:
        yield run
