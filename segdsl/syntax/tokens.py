"""Tokens of the language: their kinds, and the words and marks that the lexer recognizes."""

from __future__ import annotations

from typing import NamedTuple

from segdsl.diagnostics import Diagnostic


class Token(NamedTuple):
    """One token. ``kind`` is a terminal of grammar/seg.lark, `ERROR` or `$END`; ``start:end`` are offsets of ``text``.

    ``trivia`` is the text between the previous token and this one: whitespace, newlines and `#` comments.
    """

    kind: str
    text: str
    start: int
    end: int
    trivia: str


class LexResult(NamedTuple):
    """All tokens of a text, ending with `$END`, and the diagnostics for invalid characters."""

    tokens: tuple[Token, ...]
    diagnostics: tuple[Diagnostic, ...]


END = "$END"
ERROR = "ERROR"

MARKS = {
    "->": "ARROW", "..": "RANGE", "**": "POWER", "//": "SLASHSLASH", "==": "COMPARE", "!=": "COMPARE",
    "<=": "COMPARE", ">=": "COMPARE", "<": "COMPARE", ">": "COMPARE", "+": "PLUS", "-": "MINUS", "*": "STAR",
    "/": "SLASH", "=": "EQUAL", ":": "COLON", ",": "COMMA", ".": "DOT", "(": "LPAR", ")": "RPAR", "[": "LSQB",
    "]": "RSQB", "{": "LBRACE", "}": "RBRACE",
}  # fmt: skip
"""The terminal of each operator and punctuation mark."""

STATEMENT_KEYWORDS = frozenset({"import", "extends", "let", "block", "model", "in", "out", "param", "drop", "seg"})
"""Words that are keywords only at the start of a line, in front of the statement that they introduce."""

EXPRESSION_KEYWORDS = frozenset(
    {"as", "if", "then", "else", "for", "in", "from", "and", "or", "not", "true", "false", "none"}
)
"""Words that are keywords everywhere except as a key or after a dot."""

KEYWORDS = STATEMENT_KEYWORDS | EXPRESSION_KEYWORDS | {"each"}
DECLARATION_KINDS = frozenset({"LET", "BLOCK", "MODEL", "IN", "OUT", "PARAM", "DROP", "AS"})
