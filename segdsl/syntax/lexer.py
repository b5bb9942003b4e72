"""The lexer: source text to tokens, with contextual keywords and without losing a character.

Concatenating ``trivia + text`` of all tokens restores the text exactly; the last token, ``$END``, carries the rest.
"""

from __future__ import annotations

import re

from segdsl.diagnostics import Diagnostic
from segdsl.syntax.lexer_errors import check_token
from segdsl.syntax.tokens import (
    DECLARATION_KINDS,
    END,
    ERROR,
    EXPRESSION_KEYWORDS,
    KEYWORDS,
    MARKS,
    STATEMENT_KEYWORDS,
    LexResult,
    Token,
)

# One pattern with a group per kind: `lastgroup` gives the kind at once. The order matters, since `0.5` begins with an
# INT and `->` with a MINUS. The last group, ERROR, takes any other character, so the pattern matches everywhere.
_PATTERN = re.compile(
    r"""(?P<trivia>\ufeff?[ \t\r\n]*(?:\#[^\n]*[ \t\r\n]*)*)
    (?:(?P<NAME>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<MARK>->|\.\.|\*\*|//|==|!=|<=|>=|[-+*/<>=(){}\[\],.:])
    |(?P<PERCENT>[0-9]+(?:\.[0-9]+)?%(?![ \t]*[\w(]))
    |(?P<SIZE>[0-9]+x[0-9]+(?!\w))
    |(?P<FLOAT>[0-9]+\.[0-9]+(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+)
    |(?P<INT>[0-9]+)
    |(?P<STRING>"(?:\\.|[^"\\\n])*")
    |(?P<QUOTED>'[^'"\\\n]*')
    |(?P<END>\Z)
    |(?P<ERROR>"[^\n]*|[^ \t\r\n\#\x21-\x7e]+|&&|\|\||.))""",
    re.VERBOSE,
)
_FALLBACK_KINDS = {"PERCENT": "FLOAT", "QUOTED": "STRING", "END": END}


def lex(text: str, name: str) -> LexResult:
    """Split ``text`` into tokens; ``name`` is the file name for the spans. Never raises."""
    tokens: list[Token] = []
    found: list[Diagnostic] = []
    words: list[int] = []
    # This loop sees every token of every file: local names and `tuple.__new__` are cheaper than `Token(…)`.
    add, match, make, at = tokens.append, _PATTERN.match, tuple.__new__, 0
    while True:
        m = match(text, at)
        assert m is not None, "the pattern matches at every offset"
        kind, word = m.lastgroup or END, m[m.lastgroup or END]
        if kind == "NAME":
            if word in KEYWORDS:
                words.append(len(tokens))
            if tokens and at == m.end() - len(word) and tokens[-1].kind in _NUMBER_KINDS:
                found.extend(check_token("GLUED", word, at, tokens[-1], name))
        elif kind == "MARK":
            kind = MARKS[word]
        elif kind in _SUSPECT_KINDS:
            found.extend(check_token(kind, word, m.end() - len(word), tokens[-1] if tokens else None, name))
            kind = _FALLBACK_KINDS.get(kind, kind)
        else:
            kind = _FALLBACK_KINDS.get(kind, kind)
        start, at = m.end() - len(word), m.end()
        add(make(Token, (kind, word, start, at, m[1])))
        if kind == END:
            break
    # Keywords are decided last, because the decision looks at the following tokens.
    _mark_keywords(tokens, words)
    return LexResult(tuple(tokens), tuple(found))


def _mark_keywords(tokens: list[Token], indices: list[int]) -> None:
    for index in indices:
        if is_keyword(tokens, index):
            tokens[index] = tokens[index]._replace(kind=tokens[index].text.upper())


_NUMBER_KINDS = frozenset({"INT", "FLOAT", "SIZE"})
_SUSPECT_KINDS = frozenset({"PERCENT", "QUOTED", "ERROR", "STRING"})


def is_keyword(tokens: list[Token], index: int) -> bool:
    """Return whether the word at ``index`` (its text is in KEYWORDS) is a keyword: in `model = X()` it is a name."""
    # Only the neighboring tokens count: a bracket left open somewhere above must not turn keywords into names.
    word, after = tokens[index].text, tokens[index + 1]
    before = tokens[index - 1].kind if index else ""
    if after.kind in ("EQUAL", "DOT") or before == "DOT":
        return False
    if before in DECLARATION_KINDS and "\n" not in tokens[index].trivia:
        return False
    if after.kind == "COLON" and before in ("LPAR", "COMMA"):
        return False
    if word == "seg" and index == 0:
        return after.kind != "LBRACE"
    if word == "each":
        return before == "ARROW"
    if word in STATEMENT_KEYWORDS and _opens_statement(tokens, index):
        return True
    return word in EXPRESSION_KEYWORDS and not (after.kind == "LBRACE" and starts_line(tokens, index))


def starts_line(tokens: list[Token], index: int) -> bool:
    """Return whether the token at ``index`` is the first on its line or directly after a brace."""
    return index == 0 or "\n" in tokens[index].trivia or tokens[index - 1].kind in ("LBRACE", "RBRACE")


def _opens_statement(tokens: list[Token], index: int) -> bool:
    after = tokens[index + 1]
    if not starts_line(tokens, index) or "\n" in after.trivia:
        return False
    if after.text not in EXPRESSION_KEYWORDS:
        return after.kind in ("NAME", "STRING", "INT", "FLOAT", ERROR) or after.text in KEYWORDS
    # `let for = 1` declares a name, but `model for x` is an expression: the token after the next one decides.
    behind = tokens[index + 2]
    return behind.kind in ("EQUAL", "COLON", "DOT", "LPAR", END) or "\n" in behind.trivia
