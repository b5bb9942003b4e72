"""Which ends of lines end a statement, and what to make of brackets that do not match.

An end of line counts outside `()` and `[]`, unless the next line begins with `->`, `then` or `else`. Where brackets do
not match, indentation tells where an unclosed one was meant to end, so that one mistake stays one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from segdsl.diagnostics import Diagnostic, Fix, Label, Span
from segdsl.syntax.lexer import END, ERROR, Token

NEWLINE = "_NEWLINE"
MAX_BRACKETS = 100
"""How deep brackets and braces may nest in each other."""

_CLOSER_OF = {"LPAR": "RPAR", "LSQB": "RSQB", "LBRACE": "RBRACE"}
_CLOSERS = frozenset(_CLOSER_OF.values())
_CONTINUING = frozenset({"ARROW", "THEN", "ELSE"})
_SHOWN = {"LPAR": "(", "LSQB": "[", "LBRACE": "{", "RPAR": ")", "RSQB": "]", "RBRACE": "}"}
_SECTION_STARTS = frozenset({"EQUAL", "DOT", "LBRACE"})
_KEYWORD_STARTS = frozenset({"LET", "BLOCK", "MODEL", "IMPORT", "EXTENDS", "DROP", "PARAM", "OUT", "RBRACE", END})


class Laid(NamedTuple):
    """The tokens for the parser, with empty ones of kind `_NEWLINE` between statements, and what was wrong."""

    tokens: list[Token]
    diagnostics: list[Diagnostic]


def lay_out(tokens: tuple[Token, ...], name: str) -> Laid:
    """What the parser gets to see. An ERROR token stands for something that a diagnostic has been made for."""
    if not _balanced(tokens):
        return _Repair(tokens, name).run()
    out: list[Token] = []
    found: list[Diagnostic] = []
    add = out.append
    depths = [0]
    depth = 0  # of () and [] inside the innermost {}
    before = "LBRACE"
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
    help = "write it at the end of the line before: a newline ends a statement"
    span = Span(name, token.start, token.end)
    return Diagnostic("brace-on-own-line", "this `{` stands on a line of its own", help, span=span, fix=fix)


class _Open(NamedTuple):
    token: Token
    indent: int
    """Indentation of the line that the bracket is opened on."""
    indented: bool
    """For a brace: whether the first line inside is indented further, so that indentation can be trusted."""
    dead: bool
    """Whether the parser gets to see an ERROR in its place."""


class _Repair:
    """Lays out tokens whose brackets do not match, one line after the other."""

    def __init__(self, tokens: tuple[Token, ...], name: str) -> None:
        self.tokens, self.name = tokens, name
        self.out: list[Token] = []
        self.found: list[Diagnostic] = []
        self.open: list[_Open] = []
        self.indent = 0
        kinds = [t.kind for t in tokens]
        self.surplus = kinds.count("LBRACE") - kinds.count("RBRACE")
        """How many braces stay open (positive), or close nothing (negative)."""
        self.head = 0
        """Where the statement begins that the line before belongs to."""
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
        if self._inner() and self._left_brackets(index, token):
            self._leave_brackets()
        if self._inner() or token.kind in _CONTINUING or token.kind == END:
            return
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
        """Whether the statement before is the head of a block or section, and the line that begins here its body."""
        head = self.out[self.head :]
        if not head or self.indent <= _indent(head[0]):
            return False
        return head[0].kind in ("BLOCK", "MODEL") or all(t.kind in ("NAME", "DOT") for t in head)

    def _open_brace(self, token: Token) -> None:
        before = self.out[-1]
        gap = Span(self.name, before.end, before.end)
        message = "no `{` opens what is indented below"
        help = "write a `{` at the end of this line"
        self.found.append(Diagnostic("missing-brace", message, help, span=gap, fix=Fix(gap, " {")))
        self.surplus += 1
        outer = _indent(self.out[self.head])
        self.open.append(_Open(Token("LBRACE", "", before.end, before.end, ""), outer, True, False))
        self._put("LBRACE", token)

    def _inner(self) -> bool:
        return bool(self.open) and self.open[-1].token.kind != "LBRACE"

    def _left_brackets(self, index: int, token: Token) -> bool:
        """Whether a line that begins with ``token`` is a new statement, although a bracket is still open."""
        outer = next(o for o in reversed(self.open) if o.token.kind != "LBRACE")
        if self.indent > outer.indent or token.kind in ("RPAR", "RSQB"):
            return False
        if token.kind in _KEYWORD_STARTS:
            return True
        after = self.tokens[index + 1].kind if index + 1 < len(self.tokens) else END
        return (token.kind == "NAME" and after in _SECTION_STARTS) or token.kind == "IN"

    def _leave_brackets(self) -> None:
        """Gives up the round and square brackets that are open: the outermost was meant to end on its line."""
        first = None
        while self._inner():
            first = self.open.pop().token
        if first is not None:
            if not self.too_deep:
                self._unclosed(first)
            self._put(ERROR, self.out[-1])

    def _unclosed(self, opener: Token, labels: tuple[Label, ...] = ()) -> None:
        shown, closer = _SHOWN[opener.kind], _SHOWN[_CLOSER_OF[opener.kind]]
        span = Span(self.name, opener.start, opener.end)
        message = f"this `{shown}` is not closed"
        self.found.append(
            Diagnostic("unclosed-bracket", message, f"close it with `{closer}`", span=span, labels=labels)
        )

    def _outside(self, token: Token) -> bool:
        """Whether a line that begins with ``token`` lies outside the innermost brace."""
        brace = self.open[-1]
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
        words = "the file ends here" if token.kind == END else "this stands outside it"
        self.found.append(
            Diagnostic(
                "unclosed-brace",
                "this `{` is not closed",
                "close it with `}` on a line of its own",
                span=span,
                labels=(Label(place, words),),
            )
        )
        self._put("RBRACE", token)

    def _push(self, index: int, token: Token) -> None:
        after = self.tokens[index + 1]
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
            self._unclosed(opener, (Label(Span(self.name, token.start, token.end), "this closes another one"),))
            self.out.append(token._replace(kind=ERROR))
            self.open.pop()
            return
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
        shown = _SHOWN[token.kind]
        span = Span(self.name, token.start, token.end)
        if token.kind == "RBRACE":
            self.surplus += 1
            help = "remove it, or open what it should close"
            self.found.append(Diagnostic("stray-brace", f"this `{shown}` closes nothing", help, span=span))
            return
        help = "remove it, or open what it should close"
        self.found.append(Diagnostic("stray-bracket", f"this `{shown}` closes nothing", help, span=span))
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
    """The finding that something nests deeper than the language allows."""
    message = f"this nests deeper than {MAX_BRACKETS} levels"
    return Diagnostic("nesting-too-deep", message, "name the inner parts: `let part = …`, or a binding", span=span)


def line_indent(tokens: Sequence[Token], index: int) -> int:
    """The indentation of the line that ``tokens[index]`` stands on."""
    while index and "\n" not in tokens[index].trivia:
        index -= 1
    return _indent(tokens[index])


def _indent(token: Token) -> int:
    return len(token.trivia.rpartition("\n")[2].expandtabs(8))
