"""The version header `seg 1`, the first line of every file."""

from __future__ import annotations

from segdsl.diagnostics import Diagnostic, Fix, Span
from segdsl.syntax.tokens import Token

VERSION = 1
_HEADER_SLUGS = frozenset({"bad-header", "header-not-first"})


def check_header(
    diagnostics: list[Diagnostic], tokens: tuple[Token, ...], version: int | None, name: str
) -> list[Diagnostic]:
    """Return ``diagnostics`` plus any error in the header; ``version`` is what the parser read there, if anything."""
    first = tokens[0]
    if version is not None and version != VERSION:
        # Errors found with this version's grammar mean nothing for a file in another version: drop them.
        message = f"this file uses language version {version}, but this segdsl supports version {VERSION} only"
        span = Span(name, tokens[1].start, tokens[1].end)
        return [Diagnostic("unknown-version", message, "write `seg 1`, or install a newer segdsl", span=span)]
    if first.kind == "SEG" or any(d.slug in _HEADER_SLUGS for d in diagnostics):
        return diagnostics
    message = "missing language version on the first line"
    span, fix = Span(name, first.start, first.end), Fix(Span(name, 0, 0), "seg 1\n\n")
    return [Diagnostic("missing-header", message, "write `seg 1` as the first line", span=span, fix=fix), *diagnostics]
