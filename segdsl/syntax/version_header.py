"""`seg 1`: the first line of every file."""

from __future__ import annotations

from segdsl.diagnostics import Diagnostic, Fix, Span
from segdsl.syntax.lexer import Token

VERSION = 1
_ABOUT_THE_HEADER = frozenset({"bad-header", "header-not-first"})


def with_header(found: list[Diagnostic], tokens: tuple[Token, ...], version: int | None, name: str) -> list[Diagnostic]:
    """``found``, and what is wrong with the first line unless that is in it; ``version`` is what the parser read there.

    Nothing but the version is said of a file in a version that is not known here.
    """
    first = tokens[0]
    if version is not None and version != VERSION:
        message = f"this file is written in version {version} of the language; this segdsl reads version {VERSION}"
        span = Span(name, tokens[1].start, tokens[1].end)
        return [Diagnostic("unknown-version", message, "write `seg 1`, or use a newer segdsl", span=span)]
    if first.kind == "SEG" or any(d.slug in _ABOUT_THE_HEADER for d in found):
        return found
    message = "a file begins with the version of the language"
    span, fix = Span(name, first.start, first.end), Fix(Span(name, 0, 0), "seg 1\n\n")
    return [Diagnostic("missing-header", message, "write `seg 1` as the first line", span=span, fix=fix), *found]
