"""What is wrong with the characters of a text: diagnostics of the lexer."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from segdsl.diagnostics import Diagnostic, Fix, Span

if TYPE_CHECKING:
    from segdsl.syntax.lexer import Token

ESCAPES = {'"': '"', "\\": "\\", "n": "\n", "t": "\t"}
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)

_REMEDIES = {
    ";": "write one statement on each line, without `;`",
    "&&": "write `and`",
    "&": "write `and`",
    "||": "write `or`",
    "|": "write `or`",
    "!": "write `not`",
    "%": "there is no remainder operator; a share is written as a number from 0 to 1, such as `0.5`",
    "'": 'write texts in double quotes: `"text"`',
    "`": 'write texts in double quotes: `"text"`',
    "^": "a power is written `a ** b`",
    "@": "there are no decorators; remove it",
    "~": 'a path is a text, and stands in double quotes: `"…"`',
    "$": "names are letters, digits and `_`",
    "?": "a choice is written `if a then b else c`",
    "\u00d7": "a size is written with the letter x: `512x512`",
    **dict.fromkeys("\u201c\u201d\u201e\u2018\u2019\u00ab\u00bb", 'write texts in double quotes: `"text"`'),
    **dict.fromkeys("\u2013\u2014\u2212", "write `-`"),
    "→": "a flow is written `->`",
    "\\": "remove it; inside `()` and `[]` a line may simply go on",
}


def complaint(kind: str, text: str, start: int, before: Token | None, name: str) -> list[Diagnostic]:
    """What to say about one suspicious token, or nothing; ``before`` is the token in front of it."""
    span = Span(name, start, start + len(text))
    if kind == "STRING":
        return _escapes(text, start, name)
    if kind == "PERCENT":
        share = f"{float(text[:-1]) / 100:.12g}"
        share = share if "." in share or "e" in share else f"{share}.0"
        return [
            Diagnostic(
                "percent-literal", f"`{text}` is no number: there are no percentages",
                f"write the share as a number: `{share}`", span=span, fix=Fix(span, share),
            )
        ]  # fmt: skip
    if kind == "QUOTED":
        fixed = f'"{text[1:-1]}"'
        return [
            Diagnostic(
                "single-quotes", f"{text} is in single quotes; texts stand in double quotes", f"write {fixed}",
                span=span, fix=Fix(span, fixed),
            )
        ]  # fmt: skip
    if kind == "GLUED" and before is not None:
        return [_glued(text, start, before, name)]
    if text.startswith('"'):
        return [
            Diagnostic(
                "unterminated-string", 'this text has no closing `"` on its line',
                'close it with `"`; a line break inside a text is written `\\n`', span=span,
            )
        ]  # fmt: skip
    if before is not None and before.kind == "ERROR" and before.end == start:
        return []
    return [_character(text, span)]


def unescape(text: str) -> str:
    """The value of a string token with its quotes; unknown escapes, which are diagnostics, stay as they are."""
    return _ESCAPE.sub(lambda m: ESCAPES.get(m[1], m[0]), text[1:-1])


def _escapes(text: str, start: int, name: str) -> list[Diagnostic]:
    if "\\" not in text:
        return []
    return [
        Diagnostic(
            "unknown-escape", f"`{m[0]}` means nothing in a text", 'known are `\\"`, `\\\\`, `\\n` and `\\t`; '
            "a backslash itself is written `\\\\`", span=Span(name, start + m.start(), start + m.end()),
        )
        for m in _ESCAPE.finditer(text) if m[1] not in ESCAPES
    ]  # fmt: skip


def _glued(unit: str, start: int, number: Token, name: str) -> Diagnostic:
    whole = Span(name, number.start, start + len(unit))
    shown = number.text + unit
    if re.fullmatch(r"[xX][0-9]+(?:[xX][0-9]*)*", unit) or number.kind == "SIZE":
        sides = re.split("[xX]", shown)
        right = "x".join(sides) if len(sides) == 2 and all(s.isdigit() for s in sides) else ""
        remedy = f"write `{right}`" if right else "a size is height x width, two whole numbers: `512x512`"
        fix = Fix(whole, right) if right else None
        return Diagnostic("bad-number", f"`{shown}` is no size", remedy, span=whole, fix=fix)
    if re.fullmatch(r"_[0-9_]+", unit):
        right = shown.replace("_", "")
        return Diagnostic("bad-number", f"`{shown}` is no number: digits are not grouped", f"write `{right}`",
                          span=whole, fix=Fix(whole, right))  # fmt: skip
    if re.match(r"[eE][0-9_]*$", unit):
        return Diagnostic("bad-number", f"`{shown}` is no number", "an exponent is written as in `1e-3`", span=whole)
    right = f"{number.text} {unit}"
    return Diagnostic("glued-unit", f"`{shown}` needs a blank between number and unit", f"write `{right}`",
                      span=whole, fix=Fix(Span(name, start, start), " "))  # fmt: skip


def _character(text: str, span: Span) -> Diagnostic:
    if text in _REMEDIES:
        return Diagnostic("bad-character", f"`{text}` means nothing here", _REMEDIES[text], span=span)
    if text.isspace():
        return Diagnostic("bad-character", f"an unusual blank (U+{ord(text[0]):04X})", "write an ordinary blank",
                          span=span, fix=Fix(span, " "))  # fmt: skip
    shown = text if text.isprintable() else " ".join(f"U+{ord(c):04X}" for c in text[:4])
    remedy = "names are letters a-z, digits and `_`; other characters stand in texts and comments"
    return Diagnostic("bad-character", f"`{shown}` means nothing here", remedy, span=span)
