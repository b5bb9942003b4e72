"""The one layout of a `.seg` text: no options, idempotent, every comment kept, the meaning unchanged.

It works on tokens. Line breaks inside brackets and before arrows are the author's; indentation, spacing, blank lines
and the alignment of neighbouring `=` are the printer's.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from segdsl.diagnostics import Diagnostic, SegError, Span
from segdsl.syntax.lexer import END, Token, lex
from segdsl.syntax.parser import parse

INDENT = "  "
OPENERS = {"(": ")", "[": "]"}
TIGHT_BEFORE = frozenset({")", "]", ",", ":", ".", ".."})
TIGHT_AFTER = frozenset({"(", "[", ".", ".."})
OPERAND_ENDS = frozenset({"NAME", "INT", "FLOAT", "SIZE", "STRING", "TRUE", "FALSE", "NONE"})


def format_text(text: str, name: str = "<text>") -> str:
    """``text`` laid out. Raises SegError with the diagnostics of a text that does not parse, and changes nothing."""
    parsed = parse(text, name)
    if parsed.diagnostics:
        raise SegError(parsed.diagnostics, {name: text})
    laid_out = _Printer(lex(text.lstrip("\ufeff"), name).tokens).text()
    if parse(laid_out, name).diagnostics or _words(laid_out) != _words(text):
        whole = Span(name, 0, len(text))
        message = "this file cannot be laid out without changing it"
        raise SegError(
            [Diagnostic("format-unsafe", message, "please report it; the file is untouched", span=whole)], {name: text}
        )
    return laid_out


def _words(text: str) -> list[str]:
    """Everything in a text that is not blank: its tokens and its comments."""
    tokens = lex(text.lstrip("\ufeff"), "").tokens
    return [w for t in tokens for w in (*(c.strip() for c in _comments(t)), t.text) if w]


def _comments(token: Token) -> list[str]:
    return [line.strip() for line in token.trivia.split("\n") if line.strip().startswith("#")]


@dataclass(slots=True)
class _Line:
    """One line of output: ``key`` is the length of what stands before an `=` that may be aligned, else 0."""

    indent: int
    parts: list[str] = field(default_factory=list)
    comment: str = ""
    key: int = 0
    blank_before: bool = False

    @property
    def body(self) -> str:
        return "".join(self.parts)


class _Printer:
    """Walks the tokens once and fills lines."""

    def __init__(self, tokens: tuple[Token, ...]) -> None:
        self.tokens = tokens
        self.lines: list[_Line] = []
        self.braces = 0
        self.stack: list[tuple[int, bool]] = []
        """For each open bracket: the indent of the line that opened it, and whether it is a shape note."""
        self.statement = 0

    def text(self) -> str:
        for index, token in enumerate(self.tokens):
            self._token(index, token)
        self._align()
        out: list[str] = []
        for line in self.lines:
            if line.blank_before and out and not out[-1].endswith("{"):
                out.append("")
            out.append(
                (INDENT * line.indent + line.body).rstrip() if line.body else INDENT * line.indent + line.comment
            )
            if line.body and line.comment:
                out[-1] += "  " + line.comment
        return "\n".join(out) + "\n" if out else ""

    def _token(self, index: int, token: Token) -> None:
        before = self.tokens[index - 1] if index else None
        closing = token.kind == "RBRACE"
        breaks = "\n" in token.trivia or before is None or before.kind == "LBRACE" or closing
        breaks = breaks or (before is not None and before.kind == "RBRACE")
        own = self._trivia(token, starts=before is None)
        if closing:
            self.braces -= 1
        if token.kind == END:
            return
        if breaks:
            blank = self._blank(own) and not closing
            self._start(token, blank)
        elif before is not None and _spaced(self.tokens, index, self._in_note()):
            self.lines[-1].parts.append(" ")
        self._mark_key(index, token)
        self.lines[-1].parts.append(token.text)
        self._brackets(index, token)

    def _trivia(self, token: Token, *, starts: bool) -> str:
        """Prints the comments before a token; gives what stands between the last of them and the token."""
        pieces = token.trivia.split("\n")
        for number, piece in enumerate(pieces):
            comment = piece.strip()
            if not comment.startswith("#"):
                continue
            if number == 0 and not starts and self.lines:
                self.lines[-1].comment = comment
                continue
            blank = any(not p.strip() for p in pieces[max(number - 1, 1) : number]) and number > 1
            indent = self._indent_for(token, comment=True)
            self.lines.append(_Line(indent, [], comment, 0, blank))
        last = max((n for n, p in enumerate(pieces) if p.strip().startswith("#")), default=0)
        return "\n" * (len(pieces) - 1 - last)

    def _blank(self, rest: str) -> bool:
        return rest.count("\n") > 1

    def _indent_for(self, token: Token, *, comment: bool = False) -> int:
        if self.stack:
            closes = token.text in (")", "]") and not comment
            return self.stack[-1][0] + (0 if closes else 1)
        if token.text in ("->", "then", "else") and token.kind != "NAME":
            return self.statement + 1
        return self.braces - (token.kind == "RBRACE" and not comment)

    def _start(self, token: Token, blank: bool) -> None:
        indent = self.braces if token.kind == "RBRACE" else self._indent_for(token)
        continues = bool(self.stack) or (token.text in ("->", "then", "else") and token.kind != "NAME")
        if not continues:
            self.statement = indent
        self.lines.append(_Line(indent, blank_before=blank and not continues))

    def _in_note(self) -> bool:
        return any(note for _, note in self.stack)

    def _brackets(self, index: int, token: Token) -> None:
        if token.text in OPENERS and token.kind in ("LPAR", "LSQB"):
            note = token.text == "[" and index > 0 and self.tokens[index - 1].kind == "COLON"
            self.stack.append((self.lines[-1].indent, note))
        elif token.kind in ("RPAR", "RSQB") and self.stack:
            self.stack.pop()
        elif token.kind == "LBRACE":
            self.braces += 1

    def _mark_key(self, index: int, token: Token) -> None:
        """Remembers where the `=` of `name = value` stands; dotted paths, `let` and `out` are not aligned."""
        line = self.lines[-1]
        if token.kind == "EQUAL" and not self.stack and len(line.parts) == 2 and self.tokens[index - 1].kind == "NAME":
            line.key = len(line.parts[0])

    def _align(self) -> None:
        run: list[_Line] = []
        for number, line in enumerate(self.lines):
            following = self.lines[number + 1] if number + 1 < len(self.lines) else None
            whole = line.key and not (
                following and following.indent > line.indent and not following.blank_before and following.body
            )
            whole = whole and not line.body.endswith(("(", "["))
            if not whole or line.blank_before or (run and run[-1].indent != line.indent):
                self._pad(run)
                run = []
            if whole:
                run.append(line)
        self._pad(run)

    @staticmethod
    def _pad(run: list[_Line]) -> None:
        width = max((line.key for line in run), default=0)
        for line in run:
            line.parts[0] = line.parts[0].ljust(width)


def _spaced(tokens: tuple[Token, ...], index: int, note: bool) -> bool:
    """Whether a blank stands between a token and the one before it on its line."""
    token, before = tokens[index], tokens[index - 1]
    if token.text in TIGHT_BEFORE or before.text in TIGHT_AFTER:
        return False
    if note and (token.kind == "SLASH" or before.kind == "SLASH"):
        return False
    if token.kind in ("LPAR", "LSQB"):
        return not (before.kind == "NAME" or before.kind in ("RPAR", "RSQB"))
    return not (before.kind in ("MINUS", "PLUS") and _is_sign(tokens, index - 1))


def _is_sign(tokens: tuple[Token, ...], index: int) -> bool:
    """Whether `-` or `+` stands before its only operand."""
    if index == 0:
        return True
    before = tokens[index - 1]
    return before.kind not in OPERAND_ENDS and before.kind not in ("RPAR", "RSQB")
