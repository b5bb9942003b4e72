"""Diagnostics for invalid characters, numbers and strings found by the lexer."""

from __future__ import annotations

import re

from segdsl.diagnostics import Diagnostic, Fix, Span
from segdsl.syntax.tokens import Token

ESCAPES = {'"': '"', "\\": "\\", "n": "\n", "t": "\t"}
_ESCAPE_PATTERN = re.compile(r"\\(.)", re.DOTALL)

_CHARACTER_HELP = {
    ";": "write one statement per line, without `;`",
    "&&": "write `and`",
    "&": "write `and`",
    "||": "write `or`",
    "|": "write `or`",
    "!": "write `not`",
    "%": "write a fraction as a number from 0 to 1, such as `0.5`; there is no remainder operator",
    "'": 'write strings in double quotes: `"text"`',
    "`": 'write strings in double quotes: `"text"`',
    "^": "write a power as `a ** b`",
    "@": "remove it; there are no decorators",
    "~": 'write a path as a string in double quotes: `"…"`',
    "$": "use only letters, digits and `_` in names",
    "?": "write a conditional as `if a then b else c`",
    "\u00d7": "write a size with the letter x: `512x512`",
    # Typographic quotes, dashes and arrows come from text pasted out of word processors, papers and web pages.
    **dict.fromkeys("\u201c\u201d\u201e\u2018\u2019\u00ab\u00bb", 'write strings in double quotes: `"text"`'),
    **dict.fromkeys("\u2013\u2014\u2212", "write `-`"),
    "→": "write an arrow as `->`",
    "\\": "remove it; a line inside `()` or `[]` continues on the next one",
}


def check_token(kind: str, text: str, start: int, previous: Token | None, name: str) -> list[Diagnostic]:
    """Return the diagnostics for one suspicious token; ``previous`` is the token in front of it.

    ``name`` is the file for the spans. Most suspicious tokens turn out to be valid: the list is then empty.
    """
    span = Span(name, start, start + len(text))
    if kind == "STRING":
        return _find_unknown_escapes(text, start, name)
    if kind == "PERCENT":
        # 12 digits hide the rounding error of the division; `.0` keeps the replacement a float.
        fraction = f"{float(text[:-1]) / 100:.12g}"
        fraction = fraction if "." in fraction or "e" in fraction else f"{fraction}.0"
        return [
            Diagnostic(
                "percent-literal", f"percent literals are not supported: `{text}`",
                f"write the fraction as a number: `{fraction}`", span=span, fix=Fix(span, fraction),
            )
        ]  # fmt: skip
    if kind == "QUOTED":
        fixed = f'"{text[1:-1]}"'
        return [
            Diagnostic(
                "single-quotes", f"the string {text} is in single quotes", f"use double quotes: {fixed}",
                span=span, fix=Fix(span, fixed),
            )
        ]  # fmt: skip
    if kind == "GLUED" and previous is not None:
        return [_diagnose_unit_spacing(text, start, previous, name)]
    if text.startswith('"'):
        return [
            Diagnostic(
                "unterminated-string", 'this string has no closing `"` on its line',
                'close it with `"`; write a line break inside a string as `\\n`', span=span,
            )
        ]  # fmt: skip
    # A run of invalid characters is reported once, at its first character.
    if previous is not None and previous.kind == "ERROR" and previous.end == start:
        return []
    return [_diagnose_character(text, span)]


def unescape_string(text: str) -> str:
    """Return the value of a string token that still has its quotes.

    Unknown escapes are left as they are: the lexer has reported them already.
    """
    return _ESCAPE_PATTERN.sub(lambda m: ESCAPES.get(m[1], m[0]), text[1:-1])


def _find_unknown_escapes(text: str, start: int, name: str) -> list[Diagnostic]:
    if "\\" not in text:
        return []
    return [
        Diagnostic(
            "unknown-escape", f"unknown escape `{m[0]}` in a string", 'use `\\"`, `\\\\`, `\\n` or `\\t`; '
            "write a backslash as `\\\\`", span=Span(name, start + m.start(), start + m.end()),
        )
        for m in _ESCAPE_PATTERN.finditer(text) if m[1] not in ESCAPES
    ]  # fmt: skip


def _diagnose_unit_spacing(unit: str, start: int, number: Token, name: str) -> Diagnostic:
    whole = Span(name, number.start, start + len(unit))
    literal = number.text + unit
    if re.fullmatch(r"[xX][0-9]+(?:[xX][0-9]*)*", unit) or number.kind == "SIZE":
        sides = re.split("[xX]", literal)
        # `512X512` has one obvious spelling; `3x3x3` has none, so it gets no machine fix.
        fixed = "x".join(sides) if len(sides) == 2 and all(s.isdigit() for s in sides) else ""
        remedy = f"write `{fixed}`" if fixed else "write a size as height x width, two integers: `512x512`"
        fix = Fix(whole, fixed) if fixed else None
        return Diagnostic("bad-number", f"`{literal}` is not a valid size", remedy, span=whole, fix=fix)
    if re.fullmatch(r"_[0-9_]+", unit):
        fixed = literal.replace("_", "")
        return Diagnostic("bad-number", f"`{literal}` has digit separators, which are not supported",
                          f"write `{fixed}`", span=whole, fix=Fix(whole, fixed))  # fmt: skip
    if re.match(r"[eE][0-9_]*$", unit):
        message = f"`{literal}` is not a valid number"
        return Diagnostic("bad-number", message, "write an exponent as in `1e-3`", span=whole)
    fixed = f"{number.text} {unit}"
    return Diagnostic("glued-unit", f"missing space between number and unit in `{literal}`", f"write `{fixed}`",
                      span=whole, fix=Fix(Span(name, start, start), " "))  # fmt: skip


def _diagnose_character(text: str, span: Span) -> Diagnostic:
    if text in _CHARACTER_HELP:
        return Diagnostic("bad-character", f"unexpected `{text}`", _CHARACTER_HELP[text], span=span)
    if text.isspace():
        message = f"unexpected whitespace character U+{ord(text[0]):04X}"
        return Diagnostic("bad-character", message, "replace it with a space", span=span, fix=Fix(span, " "))
    # Control characters would garble the terminal, so they are spelled out; four are enough to recognize a binary file.
    printable = text if text.isprintable() else " ".join(f"U+{ord(c):04X}" for c in text[:4])
    remedy = "use only letters a-z, digits and `_` in names; other characters may appear in strings and comments"
    return Diagnostic("bad-character", f"unexpected `{printable}`", remedy, span=span)
