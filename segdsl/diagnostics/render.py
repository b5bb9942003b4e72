"""Diagnostics as a person reads them: the place, the line with marks under it, and what to do (LANGUAGE.md §5)."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from segdsl.diagnostics import Diagnostic, Span, position

TAB = 4
"""Columns from one tab stop to the next."""
MIN_TEXT = 40
"""Columns that a source line gets however narrow the terminal is; below it a terminal may wrap."""
CUT = "…"

_COLORS = {"error": "1;31", "warning": "1;33", "note": "1;36", "gutter": "1;34", "title": "1", "second": "1;34"}


class Mark(NamedTuple):
    """A stretch of one line, in offsets from its start, with the sign that underlines it and the words after that."""

    line: int
    start: int
    end: int
    sign: str
    text: str


@dataclass(frozen=True, slots=True)
class Renderer:
    """Draws diagnostics. ``sources`` maps file names to their texts; ``width`` is the terminal's, in columns."""

    sources: Mapping[str, str]
    color: bool = False
    width: int = 120

    def render(self, diagnostic: Diagnostic) -> str:
        """One diagnostic, several lines, ending in a newline."""
        groups = self._groups(diagnostic)
        gutter = len(str(max((m.line for _, _, marks in groups for m in marks), default=0)))
        title = self._paint(diagnostic.severity, f"{diagnostic.severity}[{diagnostic.slug}]")
        lines = [f"{title}: {self._paint('title', clean(diagnostic.message))}"]
        for number, (name, span, marks) in enumerate(groups):
            arrow = "-->" if number == 0 else ":::"
            lines.append(f"{' ' * gutter}{self._paint('gutter', arrow)} {clean(self.place(name, span))}")
            if marks:
                lines += self._excerpt(self.sources[name], marks, gutter, diagnostic.severity)
        first, *rest = clean(diagnostic.help, keep="\n").split("\n")
        edge = " " * (gutter + 1)
        lines.append(f"{edge}{self._paint('gutter', '=')} {self._paint('title', 'help')}: {first}")
        lines += [f"{edge}        {line}" for line in rest]
        return "\n".join(line.rstrip() for line in lines) + "\n"

    def render_all(self, diagnostics: Iterable[Diagnostic]) -> str:
        """Several diagnostics with an empty line between them, in the order of their places."""
        return "\n".join(self.render(d) for d in in_order(diagnostics, self.sources))

    def place(self, name: str, span: Span | None) -> str:
        """`file:line:column`, or the name alone where the text is not known."""
        if span is None or name not in self.sources:
            return name
        line, column = position(self.sources[name], span.start)
        return f"{name}:{line}:{column}"

    def _groups(self, diagnostic: Diagnostic) -> list[tuple[str, Span | None, list[Mark]]]:
        """The files that the diagnostic speaks of, its own first, each with its marks."""
        groups: dict[str, tuple[Span | None, list[Mark]]] = {}
        if diagnostic.span is not None:
            groups[diagnostic.span.file] = diagnostic.span, self._marks(diagnostic.span, "^", diagnostic.label)
        elif diagnostic.path is not None:
            groups[diagnostic.path] = None, []
        for span, text in diagnostic.labels:
            known = groups.setdefault(span.file, (span, []))
            known[1].extend(self._marks(span, "-", text))
        return [(name, span, sorted(marks)) for name, (span, marks) in groups.items()]

    def _marks(self, span: Span, sign: str, text: str) -> list[Mark]:
        """The marks of a span: one, or those of its first and last line when it has several."""
        source = self.sources.get(span.file)
        if source is None:
            return []
        start, end = min(span.start, len(source)), min(max(span.end, span.start), len(source))
        while end > start and source[end - 1] in "\r\n":
            end -= 1
        first, last = position(source, start), position(source, end)
        if first.line == last.line:
            return [Mark(first.line, first.column - 1, last.column - 1, sign, text)]
        lines = source.split("\n")
        opening, closing = lines[first.line - 1], lines[last.line - 1]
        indent = len(closing) - len(closing.lstrip())
        return [
            Mark(first.line, first.column - 1, len(opening.rstrip()), sign, ""),
            Mark(last.line, min(indent, last.column - 1), last.column - 1, sign, text),
        ]

    def _excerpt(self, source: str, marks: list[Mark], gutter: int, severity: str) -> list[str]:
        lines = source.split("\n")
        edge = self._paint("gutter", f"{' ' * gutter} |")
        rows = [edge]
        for number in sorted({m.line for m in marks}):
            here = [m for m in marks if m.line == number]
            text, columns = expand(lines[number - 1].rstrip("\r"))
            low, shown = self._window(text, columns, here, gutter)
            rows.append(f"{self._paint('gutter', f'{number:>{gutter}} |')} {shown}")
            rows += [f"{edge} {self._underline(m, columns, low, severity)}" for m in here]
        return rows

    def _window(self, text: str, columns: list[int], marks: list[Mark], gutter: int) -> tuple[int, str]:
        """Which column the shown part of a line begins at, and that part; ellipses where something is left out."""
        room = max(self.width - gutter - 3, MIN_TEXT)
        if columns[-1] <= room:
            return 0, text
        left = min(_column(columns, m.start) for m in marks)
        right = max(_column(columns, m.end) for m in marks)
        low = 0 if right < room - 1 else max(0, min(left - room // 4, columns[-1] - room + 1))
        shown = slice_columns(text, low, low + room - (2 if low else 1))
        return low, (CUT + shown if low else shown) + (CUT if low + room - 1 < columns[-1] else "")

    def _underline(self, mark: Mark, columns: list[int], low: int, severity: str) -> str:
        start, end = _column(columns, mark.start), _column(columns, mark.end)
        room = max(self.width, MIN_TEXT)
        sign = mark.sign * min(max(end - start, 1), room)
        words = f" {clean(mark.text)}" if mark.text else ""
        lead = start - low + (1 if low else 0)
        return " " * max(lead, 0) + self._paint(severity if mark.sign == "^" else "second", sign + words)

    def _paint(self, style: str, text: str) -> str:
        return f"\x1b[{_COLORS[style]}m{text}\x1b[0m" if self.color and text.strip() else text


def in_order(diagnostics: Iterable[Diagnostic], sources: Mapping[str, str]) -> list[Diagnostic]:
    """Diagnostics by file, in the order in which the files were read, then by place; those without a place last."""
    files = {name: number for number, name in enumerate(sources)}

    def key(d: Diagnostic) -> tuple[int, int]:
        return (files.get(d.span.file, len(files)), d.span.start) if d.span else (len(files) + 1, 0)

    return sorted(diagnostics, key=key)


def summary(errors: int, warnings: int) -> str:
    """`2 errors, 1 warning`; empty for none of either."""
    parts = [f"{n} {word}{'' if n == 1 else 's'}" for n, word in ((errors, "error"), (warnings, "warning")) if n]
    return ", ".join(parts)


def clean(text: str, keep: str = "") -> str:
    """``text`` without what would move the cursor, turn the writing direction or colour the terminal."""
    return "".join(c if c in keep or not _hostile(c) else " " if c in "\t\r\n" else "\ufffd" for c in text)


def expand(line: str) -> tuple[str, list[int]]:
    """A source line as it is shown, tabs as blanks, and the column of each of its characters and of its end."""
    shown: list[str] = []
    columns = [0]
    for char in line:
        at = columns[-1]
        if char == "\t":
            wide = TAB - at % TAB
            shown.append(" " * wide)
        else:
            char = "\ufffd" if _hostile(char) else char
            wide = cells(char)
            shown.append(char)
        columns.append(at + wide)
    return "".join(shown), columns


def slice_columns(text: str, low: int, high: int) -> str:
    """The part of ``text`` between two columns; a wide character that an edge cuts becomes a blank."""
    out: list[str] = []
    at = 0
    for char in text:
        wide = cells(char)
        if low <= at and at + wide <= high:
            out.append(char)
        elif at < high and at + wide > low:
            out.append(" " * (min(at + wide, high) - max(at, low)))
        at += wide
    return "".join(out)


def cells(char: str) -> int:
    """How many columns a character takes on a terminal: 0, 1 or 2."""
    if char.isascii():
        return 1
    if unicodedata.category(char) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _hostile(char: str) -> bool:
    return char < " " or (char >= "\x7f" and unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp"))


def _column(columns: list[int], offset: int) -> int:
    return columns[min(offset, len(columns) - 1)]
