"""Diagnostics for the terminal: place, source line with underlined spans, and help (LANGUAGE.md §5)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from segdsl.diagnostics import Diagnostic, Span, find_position
from segdsl.text.columns import ELLIPSIS, is_unsafe_char, measure_char, sanitize_text, slice_columns
from segdsl.text.plural import format_count

TAB_WIDTH = 4
"""Columns between tab stops."""
MIN_SOURCE_WIDTH = 40
"""Minimum columns for a source line; in a terminal that is even narrower, lines wrap."""

_COLORS = {"error": "1;31", "warning": "1;33", "note": "1;36", "gutter": "1;34", "title": "1", "second": "1;34"}


class Mark(NamedTuple):
    """A range within one line, in offsets from its start, with the sign that underlines it and the text after that."""

    line: int
    start: int
    end: int
    sign: str
    text: str


@dataclass(frozen=True, slots=True)
class Renderer:
    """Renders diagnostics. ``sources`` maps file names to their texts; ``width`` is the terminal width in columns."""

    sources: Mapping[str, str]
    color: bool = False
    width: int = 120

    def render(self, diagnostic: Diagnostic) -> str:
        """Return one diagnostic as several lines, ending in a newline."""
        groups = self._group_by_file(diagnostic)
        # All line numbers of a diagnostic share one gutter, as wide as the largest of them.
        gutter = len(str(max((m.line for _, _, marks in groups for m in marks), default=0)))
        title = self._paint_text(diagnostic.severity, f"{diagnostic.severity}[{diagnostic.slug}]")
        lines = [f"{title}: {self._paint_text('title', sanitize_text(diagnostic.message))}"]
        for number, (name, span, marks) in enumerate(groups):
            arrow = "-->" if number == 0 else ":::"
            lines.append(
                f"{' ' * gutter}{self._paint_text('gutter', arrow)} {sanitize_text(self.format_place(name, span))}"
            )
            if marks:
                lines += self._render_excerpt(self.sources[name], marks, gutter, diagnostic.severity)
        first, *rest = sanitize_text(diagnostic.help, allowed="\n").split("\n")
        edge = " " * (gutter + 1)
        lines.append(f"{edge}{self._paint_text('gutter', '=')} {self._paint_text('title', 'help')}: {first}")
        lines += [f"{edge}        {line}" for line in rest]
        return "\n".join(line.rstrip() for line in lines) + "\n"

    def render_all(self, diagnostics: Iterable[Diagnostic]) -> str:
        """Return several diagnostics in source order, separated by empty lines."""
        return "\n".join(self.render(d) for d in sort_diagnostics(diagnostics, self.sources))

    def format_place(self, name: str, span: Span | None) -> str:
        """Return `file:line:column`, or the name alone if the source text is unavailable."""
        if span is None or name not in self.sources:
            return name
        line, column = find_position(self.sources[name], span.start)
        return f"{name}:{line}:{column}"

    def _group_by_file(self, diagnostic: Diagnostic) -> list[tuple[str, Span | None, list[Mark]]]:
        """Return the files of a diagnostic, the main one first, each with its marks."""
        groups: dict[str, tuple[Span | None, list[Mark]]] = {}
        if diagnostic.span is not None:
            groups[diagnostic.span.file] = diagnostic.span, self._mark_span(diagnostic.span, "^", diagnostic.label)
        elif diagnostic.path is not None:
            groups[diagnostic.path] = None, []
        for span, text in diagnostic.labels:
            known = groups.setdefault(span.file, (span, []))
            known[1].extend(self._mark_span(span, "-", text))
        return [(name, span, sorted(marks)) for name, (span, marks) in groups.items()]

    def _mark_span(self, span: Span, sign: str, text: str) -> list[Mark]:
        """Return the marks of a span: one, or two (first and last line) if it covers several lines."""
        source = self.sources.get(span.file)
        if source is None:
            return []
        start, end = min(span.start, len(source)), min(max(span.end, span.start), len(source))
        # A span that ends with its line's newline would otherwise get a mark on the next, empty line.
        while end > start and source[end - 1] in "\r\n":
            end -= 1
        first, last = find_position(source, start), find_position(source, end)
        if first.line == last.line:
            return [Mark(first.line, first.column - 1, last.column - 1, sign, text)]
        lines = source.split("\n")
        opening, closing = lines[first.line - 1], lines[last.line - 1]
        indent = len(closing) - len(closing.lstrip())
        return [
            Mark(first.line, first.column - 1, len(opening.rstrip()), sign, ""),
            Mark(last.line, min(indent, last.column - 1), last.column - 1, sign, text),
        ]

    def _render_excerpt(self, source: str, marks: list[Mark], gutter: int, severity: str) -> list[str]:
        lines = source.split("\n")
        edge = self._paint_text("gutter", f"{' ' * gutter} |")
        rows = [edge]
        for number in sorted({m.line for m in marks}):
            line_marks = [m for m in marks if m.line == number]
            text, columns = expand_tabs(lines[number - 1].rstrip("\r"))
            low, visible = self._clip_line(text, columns, line_marks, gutter)
            rows.append(f"{self._paint_text('gutter', f'{number:>{gutter}} |')} {visible}")
            rows += [f"{edge} {self._render_underline(m, columns, low, severity)}" for m in line_marks]
        return rows

    def _clip_line(self, text: str, columns: list[int], marks: list[Mark], gutter: int) -> tuple[int, str]:
        """Return the first visible column of a line, and the visible part with ellipses where it is cut."""
        # 3 columns: the space, bar and space between the line number and the source.
        room = max(self.width - gutter - 3, MIN_SOURCE_WIDTH)
        if columns[-1] <= room:
            return 0, text
        left = min(_lookup_column(columns, m.start) for m in marks)
        right = max(_lookup_column(columns, m.end) for m in marks)
        # Keep a quarter of the width as context in front of the marks, but never scroll past the end of the line.
        low = 0 if right < room - 1 else max(0, min(left - room // 4, columns[-1] - room + 1))
        visible = slice_columns(text, low, low + room - (2 if low else 1))
        return low, (ELLIPSIS + visible if low else visible) + (ELLIPSIS if low + room - 1 < columns[-1] else "")

    def _render_underline(self, mark: Mark, columns: list[int], low: int, severity: str) -> str:
        start, end = _lookup_column(columns, mark.start), _lookup_column(columns, mark.end)
        room = max(self.width, MIN_SOURCE_WIDTH)
        sign = mark.sign * min(max(end - start, 1), room)
        text = f" {sanitize_text(mark.text)}" if mark.text else ""
        # The ellipsis in front of a cut line takes one column.
        lead = start - low + (1 if low else 0)
        return " " * max(lead, 0) + self._paint_text(severity if mark.sign == "^" else "second", sign + text)

    def _paint_text(self, style: str, text: str) -> str:
        return f"\x1b[{_COLORS[style]}m{text}\x1b[0m" if self.color and text.strip() else text


def sort_diagnostics(diagnostics: Iterable[Diagnostic], sources: Mapping[str, str]) -> list[Diagnostic]:
    """Sort diagnostics by file, in the order in which the files were read, then by position; those without one last."""
    files = {name: number for number, name in enumerate(sources)}

    def sort_key(d: Diagnostic) -> tuple[int, int]:
        return (files.get(d.span.file, len(files)), d.span.start) if d.span else (len(files) + 1, 0)

    return sorted(diagnostics, key=sort_key)


def format_counts(errors: int, warnings: int) -> str:
    """Return `2 errors, 1 warning`, or "" if there are none."""
    return ", ".join(format_count(n, word) for n, word in ((errors, "error"), (warnings, "warning")) if n)


def expand_tabs(line: str) -> tuple[str, list[int]]:
    """Return a source line with tabs expanded to spaces, and the column of each of its characters and of its end."""
    expanded: list[str] = []
    columns = [0]
    for char in line:
        at = columns[-1]
        if char == "\t":
            wide = TAB_WIDTH - at % TAB_WIDTH
            expanded.append(" " * wide)
        else:
            char = "\ufffd" if is_unsafe_char(char) else char
            wide = measure_char(char)
            expanded.append(char)
        columns.append(at + wide)
    return "".join(expanded), columns


def _lookup_column(columns: list[int], offset: int) -> int:
    return columns[min(offset, len(columns) - 1)]
