"""Newlines that end a statement, and the repair of unbalanced brackets.

A newline ends a statement outside `()` and `[]`, unless the next line begins with `->`, `then` or `else`. If brackets
do not match, indentation shows where an unclosed one was meant to end, so that one mistake gives one diagnostic.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from segdsl.diagnostics import Diagnostic, Fix, Label, Span
from segdsl.syntax.lexer import END, ERROR, Token

NEWLINE = "_NEWLINE"
MAX_BRACKETS = 100
"""Maximum nesting depth of brackets and braces."""

_CLOSER_OF = {"LPAR": "RPAR", "LSQB": "RSQB", "LBRACE": "RBRACE"}
_CLOSERS = frozenset(_CLOSER_OF.values())
_CONTINUING = frozenset({"ARROW", "THEN", "ELSE"})
_SHOWN = {"LPAR": "(", "LSQB": "[", "LBRACE": "{", "RPAR": ")", "RSQB": "]", "RBRACE": "}"}
_SECTION_STARTS = frozenset({"EQUAL", "DOT", "LBRACE"})
_KEYWORD_STARTS = frozenset({"LET", "BLOCK", "MODEL", "IMPORT", "EXTENDS", "DROP", "PARAM", "OUT", "RBRACE", END})


class Laid(NamedTuple):
    """The tokens for the parser, with an empty `_NEWLINE` token between statements, and the diagnostics."""

    tokens: list[Token]
    diagnostics: list[Diagnostic]


def lay_out(tokens: tuple[Token, ...], name: str) -> Laid:
    """Return the tokens for the parser. Each ERROR token in them has been reported already."""
    # Valid programs are balanced and take the short loop below; only broken ones pay for the repair.
    if not _balanced(tokens):
        return _Repair(tokens, name).run()
    out: list[Token] = []
    found: list[Diagnostic] = []
    add = out.append
    depths = [0]
    depth = 0  # of () and [] inside the innermost {}
    before = "LBRACE"
    # This loop sees every token of every file: fields are read by index, which is cheaper than by name.
    for token in tokens:
        kind = token[0]
        if not depth and "\n" in token[4] and before != "LBRACE" and kind not in _SILENT:
            if kind == "LBRACE":
                found.append(_brace_on_own_line(token, name))
            else:
                at = token[2] - len(token[4])
                add(Token(NEWLINE, "", at, at, ""))
        if kind == "LPAR" or kind == "LSQB":
            depth += 1
        elif kind == "RPAR" or kind == "RSQB":
            depth -= 1
        elif kind == "LBRACE":
            depths.append(depth)
            depth = 0
        elif kind == "RBRACE":
            depth = depths.pop()
        add(token)
        before = kind
    return Laid(out, found)


_SILENT = _CONTINUING | {"RBRACE", END}


def _balanced(tokens: tuple[Token, ...]) -> bool:
    expected: list[str] = []
    for token in tokens:
        kind = token[0]
        if kind in _CLOSER_OF:
            expected.append(_CLOSER_OF[kind])
            if len(expected) > MAX_BRACKETS:
                return False
        elif kind in _CLOSERS and (not expected or expected.pop() != kind):
            return False
    return not expected


def _brace_on_own_line(token: Token, name: str) -> Diagnostic:
    gap = Span(name, token.start - len(token.trivia), token.start)
    fix = Fix(gap, " ") if not token.trivia.strip() else None
    help = "move it to the end of the previous line: a newline ends a statement"
    span = Span(name, token.start, token.end)
    return Diagnostic("brace-on-own-line", "`{` is on a line of its own", help, span=span, fix=fix)


class _Open(NamedTuple):
    token: Token
    indent: int
    """Indentation of the line with the opening bracket."""
    indented: bool
    """For a brace: whether the first line inside is indented further, so that indentation is reliable."""
    dead: bool
    """Whether the parser gets an ERROR token in its place."""


class _Repair:
    """Inserts newlines into tokens whose brackets do not match, line by line, and closes or drops brackets."""

    def __init__(self, tokens: tuple[Token, ...], name: str) -> None:
        self.tokens, self.name = tokens, name
        self.out: list[Token] = []
        self.found: list[Diagnostic] = []
        self.open: list[_Open] = []
        self.indent = 0
        kinds = [t.kind for t in tokens]
        self.surplus = kinds.count("LBRACE") - kinds.count("RBRACE")
        """Number of unclosed braces (positive) or of closing braces without an opening one (negative)."""
        self.head = 0
        """Index in the output of the first token of the statement on the previous line."""
        self.too_deep = False

    def run(self) -> Laid:
        for index, token in enumerate(self.tokens):
            leads = index == 0 or "\n" in token.trivia
            if leads:
                self.indent = _indent(token)
                self._begin_line(index, token)
            if token.kind in _CLOSER_OF:
                self._push(index, token)
            elif token.kind in _CLOSERS:
                self._pop(token, leads)
            elif token.kind == END:
                self._finish(token)
            else:
                self.out.append(token)
        return Laid(self.out, self.found)

    def _begin_line(self, index: int, token: Token) -> None:
        # A line that clearly starts a statement ends the brackets above it, however many are open.
        if self._inner() and self._left_brackets(index, token):
            self._leave_brackets()
        if self._inner() or token.kind in _CONTINUING or token.kind == END:
            return
        # Braces are closed by indentation only while some are known to be missing: elsewhere indentation means nothing.
        while self.open and self.surplus > 0 and self._outside(token):
            self._close_brace(token)
        if token.kind == "RBRACE" or not self.out or self.out[-1].kind == "LBRACE":
            pass
        elif token.kind == "LBRACE":
            self.found.append(_brace_on_own_line(token, self.name))
        elif self.surplus < 0 and self._misses_brace():
            self._open_brace(token)
        else:
            self._put(NEWLINE, token)
        self.head = len(self.out)

    def _misses_brace(self) -> bool:
        """Return whether the previous statement is the head of a block or section, and the current line its body."""
        head = self.out[self.head :]
        if not head or self.indent <= _indent(head[0]):
            return False
        return head[0].kind in ("BLOCK", "MODEL") or all(t.kind in ("NAME", "DOT") for t in head)

    def _open_brace(self, token: Token) -> None:
        before = self.out[-1]
        gap = Span(self.name, before.end, before.end)
        message = "missing `{` before the indented lines below"
        help = "add `{` at the end of this line"
        self.found.append(Diagnostic("missing-brace", message, help, span=gap, fix=Fix(gap, " {")))
        self.surplus += 1
        outer = _indent(self.out[self.head])
        self.open.append(_Open(Token("LBRACE", "", before.end, before.end, ""), outer, True, False))
        self._put("LBRACE", token)

    def _inner(self) -> bool:
        return bool(self.open) and self.open[-1].token.kind != "LBRACE"

    def _left_brackets(self, index: int, token: Token) -> bool:
        """Return whether a line that begins with ``token`` starts a statement although a bracket is still open."""
        outer = next(o for o in reversed(self.open) if o.token.kind != "LBRACE")
        if self.indent > outer.indent or token.kind in ("RPAR", "RSQB"):
            return False
        if token.kind in _KEYWORD_STARTS:
            return True
        # `name =`, `name.` and `name {` at the start of a line: an argument `name = …` would be indented further.
        after = self.tokens[index + 1].kind if index + 1 < len(self.tokens) else END
        return (token.kind == "NAME" and after in _SECTION_STARTS) or token.kind == "IN"

    def _leave_brackets(self) -> None:
        """Drop all open `(` and `[`, and report the outermost."""
        first = None
        while self._inner():
            first = self.open.pop().token
        # Closing the outermost bracket usually makes the inner ones a new statement, so one diagnostic is enough.
        if first is not None:
            if not self.too_deep:
                self._unclosed(first)
            self._put(ERROR, self.out[-1])

    def _unclosed(self, opener: Token, labels: tuple[Label, ...] = ()) -> None:
        bracket, closer = _SHOWN[opener.kind], _SHOWN[_CLOSER_OF[opener.kind]]
        span = Span(self.name, opener.start, opener.end)
        message = f"this `{bracket}` is never closed"
        self.found.append(
            Diagnostic("unclosed-bracket", message, f"close it with `{closer}`", span=span, labels=labels)
        )

    def _outside(self, token: Token) -> bool:
        """Return whether a line that begins with ``token`` is outside the innermost brace."""
        brace = self.open[-1]
        # These exist at the top level only, so they end every brace whatever their indentation is.
        if token.kind in ("BLOCK", "MODEL", "IMPORT", "EXTENDS"):
            return True
        if not brace.indented:
            return False
        return self.indent < brace.indent if token.kind == "RBRACE" else self.indent <= brace.indent

    def _close_brace(self, token: Token) -> None:
        opener, _, _, dead = self.open.pop()
        self.surplus -= 1
        if dead:
            return
        span = Span(self.name, opener.start, opener.end)
        place = Span(self.name, token.start, token.end)
        text = "the file ends here" if token.kind == END else "this line is outside of it"
        self.found.append(
            Diagnostic(
                "unclosed-brace",
                "this `{` is never closed",
                "close it with `}` on a line of its own",
                span=span,
                labels=(Label(place, text),),
            )
        )
        self._put("RBRACE", token)

    def _push(self, index: int, token: Token) -> None:
        after = self.tokens[index + 1]
        # A `{` at the end of a line opens a section or block, which cannot be inside `()` or `[]`.
        if token.kind == "LBRACE" and "\n" in after.trivia:
            self._leave_brackets()
        dead = len(self.open) >= MAX_BRACKETS
        if dead and not self.too_deep:
            self.found.append(too_deep(Span(self.name, token.start, token.end)))
            self.too_deep = True
        self.out.append(token._replace(kind=ERROR) if dead else token)
        indented = "\n" in after.trivia and _indent(after) > self.indent
        self.open.append(_Open(token, self.indent, indented, dead))

    def _pop(self, token: Token, leads: bool) -> None:
        if token.kind == "RBRACE":
            self._leave_brackets()
        elif self._inner() and _CLOSER_OF[self.open[-1].token.kind] != token.kind and self._matches_outer(token):
            opener = self.open.pop().token
            self._unclosed(opener, (Label(Span(self.name, token.start, token.end), "this closes an outer bracket"),))
            self.out.append(token._replace(kind=ERROR))
            self.open.pop()
            return
        # With too many `}`, the one indented deeper than the line of its opener is the likely mistake.
        misplaced = leads and token.kind == "RBRACE" and self.surplus < 0 and self._deeper_than_opener()
        if misplaced or not self.open or _CLOSER_OF[self.open[-1].token.kind] != token.kind:
            self._stray(token)
            return
        dead = self.open.pop().dead
        self.out.append(token._replace(kind=ERROR) if dead else token)

    def _matches_outer(self, token: Token) -> bool:
        return len(self.open) > 1 and _CLOSER_OF[self.open[-2].token.kind] == token.kind

    def _deeper_than_opener(self) -> bool:
        return bool(self.open) and self.indent > self.open[-1].indent

    def _stray(self, token: Token) -> None:
        bracket = _SHOWN[token.kind]
        span = Span(self.name, token.start, token.end)
        if token.kind == "RBRACE":
            self.surplus += 1
            help = "remove it, or add the missing `{`"
            self.found.append(Diagnostic("stray-brace", f"unmatched `{bracket}`", help, span=span))
            return
        help = "remove it, or add the missing opening bracket"
        self.found.append(Diagnostic("stray-bracket", f"unmatched `{bracket}`", help, span=span))
        self.out.append(token._replace(kind=ERROR))

    def _finish(self, token: Token) -> None:
        self._leave_brackets()
        while self.open:
            if self.surplus > 0:
                self._close_brace(token)
            elif not self.open.pop().dead:
                self._put("RBRACE", token)
        self.out.append(token)

    def _put(self, kind: str, where: Token) -> None:
        at = where.start - len(where.trivia) if kind != ERROR else where.end
        self.out.append(Token(kind, "", at, at, ""))


def too_deep(span: Span) -> Diagnostic:
    """Return the diagnostic for nesting beyond the limit of the language."""
    message = f"nesting is deeper than {MAX_BRACKETS} levels"
    return Diagnostic("nesting-too-deep", message, "bind inner parts to names, for example `let part = …`", span=span)


def line_indent(tokens: Sequence[Token], index: int) -> int:
    """Return the indentation, in columns, of the line with ``tokens[index]``."""
    while index and "\n" not in tokens[index].trivia:
        index -= 1
    return _indent(tokens[index])


def _indent(token: Token) -> int:
    return len(token.trivia.rpartition("\n")[2].expandtabs(8))
