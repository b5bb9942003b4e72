"""`seg 1`: the first line of every file."""

from __future__ import annotations

from segdsl.diagnostics import Diagnostic, Fix, Span
from segdsl.syntax.lexer import Token

VERSION = 1


def check_header(tokens: tuple[Token, ...], version: int | None, name: str) -> list[Diagnostic]:
    """What is wrong with the first line, unless the parser has reported it: ``version`` is what it read there."""
    first = tokens[0]
    if first.kind == "SEG":
        if version is None or version == VERSION:
            return []
        message = f"this file is written in version {version} of the language; this segdsl reads version {VERSION}"
        span = Span(name, tokens[1].start, tokens[1].end)
        return [Diagnostic("unknown-version", message, "write `seg 1`, or use a newer segdsl", span=span)]
    if first.text.lower() == "seg" or any(t.kind == "SEG" for t in tokens):
        return []  # the parser has complained about its spelling or place
    span = Span(name, first.start, first.end)
    fix = Fix(Span(name, 0, 0), "seg 1\n\n")
    message = "a file begins with the version of the language"
    return [Diagnostic("missing-header", message, "write `seg 1` as the first line", span=span, fix=fix)]
