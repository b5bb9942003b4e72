"""A pretty-printing document algebra of groups and possible line breaks, and its renderer.

After Wadler, "A prettier printer" (2003), and Lindig, "Strictly pretty" (2000): a group is put on one line if it fits;
otherwise all of its own breaks become line breaks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Union


@dataclass(frozen=True, slots=True)
class Line:
    """A possible line break, replaced by ``flat`` if the group fits on one line. A ``hard`` one always breaks."""

    flat: str = " "
    hard: bool = False


@dataclass(frozen=True, slots=True)
class Comment:
    """A comment: ends its line without counting towards its width. ``has_own_line`` puts it on a line of its own."""

    text: str
    has_own_line: bool = False


@dataclass(frozen=True, slots=True)
class IfBroken:
    """Text that appears only if the enclosing group is broken."""

    text: str


@dataclass(frozen=True, slots=True)
class Indent:
    """Parts whose line breaks are indented by two more columns."""

    parts: list[Doc]


@dataclass(slots=True)
class Group:
    """Parts on a single line, or with a line break at every break of their own; a hard break inside forces that."""

    parts: list[Doc]
    is_broken: bool = field(init=False)

    def __post_init__(self) -> None:
        # Computed once on construction: searching the parts at every level would be quadratic in the nesting.
        self.is_broken = _has_hard_break(self.parts)


Doc = Union[str, Line, Comment, IfBroken, Indent, Group, "list[Doc]"]

SPACE = Line()
SOFT = Line("")
HARD = Line(hard=True)
INDENT_WIDTH = 2
"""Columns of one indentation."""


def _has_hard_break(parts: list[Doc]) -> bool:
    for part in parts:
        if isinstance(part, str):
            continue
        if isinstance(part, Group):
            if part.is_broken:
                return True
        elif isinstance(part, Comment) or (isinstance(part, Line) and part.hard):
            return True
        elif isinstance(part, list):
            if _has_hard_break(part):
                return True
        elif isinstance(part, Indent) and _has_hard_break(part.parts):
            return True
    return False


def render_doc(doc: Doc, indent: int, width: int) -> str:
    """Return ``doc`` as text in ``width`` columns. The first line starts at column ``indent``, without its spaces."""
    # An explicit stack of (indentation, is flat, document): recursion would be as deep as the source is nested.
    page = _Page(indent)
    todo: list[tuple[int, bool, Doc]] = [(indent, False, doc)]
    while todo:
        level, flat, part = todo.pop()
        if isinstance(part, str):
            page.put_text(part, level)
        elif isinstance(part, list):
            todo.extend((level, flat, inner) for inner in reversed(part))
        elif isinstance(part, Indent):
            todo.append((level + INDENT_WIDTH, flat, part.parts))
        elif isinstance(part, Group):
            flat = flat or (not part.is_broken and _fits_on_line(part.parts, todo, width - page.column))
            todo.append((level, flat, part.parts))
        elif isinstance(part, IfBroken):
            if not flat:
                page.append_text(part.text)
        elif isinstance(part, Comment):
            page.put_comment(part, level)
        elif flat and not part.hard:
            page.put_text(part.flat, level)
        else:
            page.end_line(level)
    return page.join_lines()


class _Page:
    """The lines rendered so far, and the current line with its column."""

    def __init__(self, indent: int) -> None:
        self.lines: list[str] = []
        self.line: list[str] = []
        self.level = 0
        self.column = indent
        self.trailing_comment = ""
        self.is_line_ended = False

    def put_text(self, text: str, level: int) -> None:
        """Append text, on a new line if a comment has ended the current one; no line begins with spaces."""
        if self.is_line_ended:
            if not text.strip():
                return
            self.end_line(level)
        if text and (self.line or not text.isspace()):
            self.append_text(text)

    def append_text(self, text: str) -> None:
        self.line.append(text)
        self.column += len(text)

    def put_comment(self, comment: Comment, level: int) -> None:
        if comment.has_own_line:
            if self.line or self.is_line_ended:
                self.end_line(level)
            self.level = level
            self.line = [comment.text]
        else:
            self.trailing_comment = f"  {comment.text}"
        self.is_line_ended = True

    def end_line(self, level: int) -> None:
        self._close_line()
        self.level = self.column = level

    def _close_line(self) -> None:
        written = "".join(self.line).rstrip() + self.trailing_comment
        self.lines.append(" " * self.level + written if self.lines and written else written)
        self.line, self.trailing_comment, self.is_line_ended = [], "", False

    def join_lines(self) -> str:
        self._close_line()
        return "\n".join(self.lines)


def _fits_on_line(parts: list[Doc], rest: list[tuple[int, bool, Doc]], room: int) -> bool:
    """Return whether ``parts`` on one line, plus the text up to the next possible break, fit into ``room`` columns."""
    # Text after the group counts too: a closing bracket or comma must not be pushed over the limit.
    todo: list[tuple[bool, Doc]] = [(True, parts)]
    remaining = len(rest)
    while room >= 0:
        if not todo:
            if not remaining:
                return True
            remaining -= 1
            _, flat, doc = rest[remaining]
            todo.append((flat, doc))
            continue
        flat, part = todo.pop()
        if isinstance(part, str):
            room -= len(part)
        elif isinstance(part, list):
            todo.extend((flat, inner) for inner in reversed(part))
        elif isinstance(part, (Indent, Group)):
            todo.append((flat, part.parts))
        elif isinstance(part, IfBroken):
            room -= 0 if flat else len(part.text)
        elif isinstance(part, Comment):
            return True
        elif isinstance(part, Line):
            if part.hard or not flat:
                return True
            room -= len(part.flat)
    return False
