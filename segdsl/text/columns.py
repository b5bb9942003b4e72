"""Text in the columns of a terminal: safe to print, measured, and cut to a width."""

from __future__ import annotations

import unicodedata

ELLIPSIS = "…"


def sanitize_text(text: str, allowed: str = "") -> str:
    """Replace characters that would move the cursor, change the writing direction or color the terminal.

    Characters in ``allowed`` are kept.
    """
    # Names and paths come from files of other people, so a terminal must never interpret them.
    return "".join(c if c in allowed or not is_unsafe_char(c) else " " if c in "\t\r\n" else "\ufffd" for c in text)


def slice_columns(text: str, low: int, high: int) -> str:
    """Return the part of ``text`` between two columns; spaces replace wide characters cut by an edge."""
    out: list[str] = []
    at = 0
    for char in text:
        wide = measure_char(char)
        if low <= at and at + wide <= high:
            out.append(char)
        elif at < high and at + wide > low:
            out.append(" " * (min(at + wide, high) - max(at, low)))
        at += wide
    return "".join(out)


def measure_char(char: str) -> int:
    """Return the number of columns that a character takes on a terminal: 0, 1 or 2."""
    if char.isascii():
        return 1
    # Combining marks take no column of their own; East Asian wide and fullwidth characters take two.
    if unicodedata.category(char) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def is_unsafe_char(char: str) -> bool:
    """Return whether a terminal would interpret a character instead of showing it."""
    # Controls, format characters (bidirectional overrides among them), lone surrogates, line and paragraph separators.
    return char < " " or (char >= "\x7f" and unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp"))


def measure_width(text: str) -> int:
    """Return the number of terminal columns that a text takes."""
    return sum(map(measure_char, text))


def truncate_end(text: str, width: int) -> str:
    """Return a text cut to ``width`` terminal columns."""
    return text if measure_width(text) <= width else f"{slice_columns(text, 0, width - 1)}{ELLIPSIS}"


def truncate_middle(text: str, width: int) -> str:
    """Return a text on one line, cut in the middle to ``width`` terminal columns."""
    text = " ".join(text.split())
    have = measure_width(text)
    if have <= width:
        return text
    # In the middle, because file names differ at their ends.
    tail = slice_columns(text, have - (width - width // 2 - 1), have)
    return f"{slice_columns(text, 0, width // 2)}{ELLIPSIS}{tail}"
