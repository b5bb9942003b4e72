"""Newlines that end a statement, and the repair of unbalanced brackets.

A newline ends a statement outside `()` and `[]`, unless the next line begins with `->`, `then` or `else`. If brackets
do not match, indentation shows where an unclosed one was meant to end, so that one mistake gives one diagnostic.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from segdsl.diagnostics import Diagnostic, Fix, Label, Span
from segdsl.syntax.tokens import END, ERROR, Token

NEWLINE = "_NEWLINE"
MAX_BRACKETS = 100
"""Maximum nesting depth of brackets and braces."""

_CLOSER_OF = {"LPAR": "RPAR", "LSQB": "RSQB", "LBRACE": "RBRACE"}
_CLOSERS = frozenset(_CLOSER_OF.values())
_CONTINUATION_KINDS = frozenset({"ARROW", "THEN", "ELSE"})
_BRACKET_TEXT = {"LPAR": "(", "LSQB": "[", "LBRACE": "{", "RPAR": ")", "RSQB": "]", "RBRACE": "}"}
_SECTION_STARTS = frozenset({"EQUAL", "DOT", "LBRACE"})
_KEYWORD_STARTS = frozenset({"LET", "BLOCK", "MODEL", "IMPORT", "EXTENDS", "DROP", "PARAM", "OUT", "RBRACE", END})


class LineTokens(NamedTuple):
    """The tokens for the parser, with an empty `_NEWLINE` token between statements, and the diagnostics."""

    tokens: list[Token]
    diagnostics: list[Diagnostic]


def insert_newlines(tokens: tuple[Token, ...], name: str) -> LineTokens:
    """Return the tokens for the parser. Each ERROR token in them has been reported already."""
    # Valid programs are balanced and take the short loop below; only broken ones pay for the repair.
    if not _has_balanced_brackets(tokens):
        return _BracketRepair(tokens, name).repair_tokens()
    out: list[Token] = []
    found: list[Diagnostic] = []
    add = out.append
    depths = [0]
    depth = 0  # of () and [] inside the innermost {}
    before = "LBRACE"
    # This loop sees every token of every file: fields are read by index, which is cheaper than by name.
    for token in tokens:
        kind = token[0]
        if not depth and "\n" in token[4] and before != "LBRACE" and kind not in _NO_NEWLINE_BEFORE:
            if kind == "LBRACE":
                found.append(_diagnose_brace_on_own_line(token, name))
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
    return LineTokens(out, found)


_NO_NEWLINE_BEFORE = _CONTINUATION_KINDS | {"RBRACE", END}


def _has_balanced_brackets(tokens: tuple[Token, ...]) -> bool:
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


def _diagnose_brace_on_own_line(token: Token, name: str) -> Diagnostic:
    gap = Span(name, token.start - len(token.trivia), token.start)
    fix = Fix(gap, " ") if not token.trivia.strip() else None
    help = "move it to the end of the previous line: a newline ends a statement"
    span = Span(name, token.start, token.end)
    return Diagnostic("brace-on-own-line", "`{` is on a line of its own", help, span=span, fix=fix)


class _OpenBracket(NamedTuple):
    token: Token
    indent: int
    """Indentation of the line with the opening bracket."""
    has_indented_body: bool
    """For a brace: whether the first line inside is indented further, so that indentation is reliable."""
    is_error: bool
    """Whether the parser gets an ERROR token in its place."""


class _BracketRepair:
    """Inserts newlines into tokens whose brackets do not match, line by line, and closes or drops brackets."""

    def __init__(self, tokens: tuple[Token, ...], name: str) -> None:
        self.tokens, self.name = tokens, name
        self.output: list[Token] = []
        self.diagnostics: list[Diagnostic] = []
        self.open_brackets: list[_OpenBracket] = []
        self.indent = 0
        kinds = [t.kind for t in tokens]
        self.brace_surplus = kinds.count("LBRACE") - kinds.count("RBRACE")
        """Number of unclosed braces (positive) or of closing braces without an opening one (negative)."""
        self.statement_start = 0
        """Index in the output of the first token of the statement on the previous line."""
        self.is_too_deep = False

    def repair_tokens(self) -> LineTokens:
        for index, token in enumerate(self.tokens):
            leads = index == 0 or "\n" in token.trivia
            if leads:
                self.indent = _measure_indent(token)
                self._begin_line(index, token)
            if token.kind in _CLOSER_OF:
                self._push_bracket(index, token)
            elif token.kind in _CLOSERS:
                self._pop_bracket(token, leads)
            elif token.kind == END:
                self._finish_file(token)
            else:
                self.output.append(token)
        return LineTokens(self.output, self.diagnostics)

    def _begin_line(self, index: int, token: Token) -> None:
        # A line that clearly starts a statement ends the brackets above it, however many are open.
        if self._is_inside_brackets() and self._starts_new_statement(index, token):
            self._abandon_brackets()
        if self._is_inside_brackets() or token.kind in _CONTINUATION_KINDS or token.kind == END:
            return
        # Braces are closed by indentation only while some are known to be missing: elsewhere indentation means nothing.
        while self.open_brackets and self.brace_surplus > 0 and self._is_outside_brace(token):
            self._close_brace(token)
        if token.kind == "RBRACE" or not self.output or self.output[-1].kind == "LBRACE":
            pass
        elif token.kind == "LBRACE":
            self.diagnostics.append(_diagnose_brace_on_own_line(token, self.name))
        elif self.brace_surplus < 0 and self._lacks_brace():
            self._insert_open_brace(token)
        else:
            self._append_marker(NEWLINE, token)
        self.statement_start = len(self.output)

    def _lacks_brace(self) -> bool:
        """Return whether the previous statement is the head of a block or section, and the current line its body."""
        head = self.output[self.statement_start :]
        if not head or self.indent <= _measure_indent(head[0]):
            return False
        return head[0].kind in ("BLOCK", "MODEL") or all(t.kind in ("NAME", "DOT") for t in head)

    def _insert_open_brace(self, token: Token) -> None:
        before = self.output[-1]
        gap = Span(self.name, before.end, before.end)
        message = "missing `{` before the indented lines below"
        help = "add `{` at the end of this line"
        self.diagnostics.append(Diagnostic("missing-brace", message, help, span=gap, fix=Fix(gap, " {")))
        self.brace_surplus += 1
        outer = _measure_indent(self.output[self.statement_start])
        self.open_brackets.append(_OpenBracket(Token("LBRACE", "", before.end, before.end, ""), outer, True, False))
        self._append_marker("LBRACE", token)

    def _is_inside_brackets(self) -> bool:
        return bool(self.open_brackets) and self.open_brackets[-1].token.kind != "LBRACE"

    def _starts_new_statement(self, index: int, token: Token) -> bool:
        """Return whether a line that begins with ``token`` starts a statement although a bracket is still open."""
        outer = next(o for o in reversed(self.open_brackets) if o.token.kind != "LBRACE")
        if self.indent > outer.indent or token.kind in ("RPAR", "RSQB"):
            return False
        if token.kind in _KEYWORD_STARTS:
            return True
        # `name =`, `name.` and `name {` at the start of a line: an argument `name = …` would be indented further.
        after = self.tokens[index + 1].kind if index + 1 < len(self.tokens) else END
        return (token.kind == "NAME" and after in _SECTION_STARTS) or token.kind == "IN"

    def _abandon_brackets(self) -> None:
        """Drop all open `(` and `[`, and report the outermost."""
        first = None
        while self._is_inside_brackets():
            first = self.open_brackets.pop().token
        # Closing the outermost bracket usually makes the inner ones a new statement, so one diagnostic is enough.
        if first is not None:
            if not self.is_too_deep:
                self._report_unclosed(first)
            self._append_marker(ERROR, self.output[-1])

    def _report_unclosed(self, opener: Token, labels: tuple[Label, ...] = ()) -> None:
        bracket, closer = _BRACKET_TEXT[opener.kind], _BRACKET_TEXT[_CLOSER_OF[opener.kind]]
        span = Span(self.name, opener.start, opener.end)
        message = f"this `{bracket}` is never closed"
        self.diagnostics.append(
            Diagnostic("unclosed-bracket", message, f"close it with `{closer}`", span=span, labels=labels)
        )

    def _is_outside_brace(self, token: Token) -> bool:
        """Return whether a line that begins with ``token`` is outside the innermost brace."""
        brace = self.open_brackets[-1]
        # These exist at the top level only, so they end every brace whatever their indentation is.
        if token.kind in ("BLOCK", "MODEL", "IMPORT", "EXTENDS"):
            return True
        if not brace.has_indented_body:
            return False
        return self.indent < brace.indent if token.kind == "RBRACE" else self.indent <= brace.indent

    def _close_brace(self, token: Token) -> None:
        opener, _, _, dead = self.open_brackets.pop()
        self.brace_surplus -= 1
        if dead:
            return
        span = Span(self.name, opener.start, opener.end)
        place = Span(self.name, token.start, token.end)
        text = "the file ends here" if token.kind == END else "this line is outside of it"
        self.diagnostics.append(
            Diagnostic(
                "unclosed-brace",
                "this `{` is never closed",
                "close it with `}` on a line of its own",
                span=span,
                labels=(Label(place, text),),
            )
        )
        self._append_marker("RBRACE", token)

    def _push_bracket(self, index: int, token: Token) -> None:
        after = self.tokens[index + 1]
        # A `{` at the end of a line opens a section or block, which cannot be inside `()` or `[]`.
        if token.kind == "LBRACE" and "\n" in after.trivia:
            self._abandon_brackets()
        dead = len(self.open_brackets) >= MAX_BRACKETS
        if dead and not self.is_too_deep:
            self.diagnostics.append(diagnose_deep_nesting(Span(self.name, token.start, token.end)))
            self.is_too_deep = True
        self.output.append(token._replace(kind=ERROR) if dead else token)
        indented = "\n" in after.trivia and _measure_indent(after) > self.indent
        self.open_brackets.append(_OpenBracket(token, self.indent, indented, dead))

    def _pop_bracket(self, token: Token, is_first_of_line: bool) -> None:
        if token.kind == "RBRACE":
            self._abandon_brackets()
        elif (
            self._is_inside_brackets()
            and _CLOSER_OF[self.open_brackets[-1].token.kind] != token.kind
            and self._matches_outer(token)
        ):
            opener = self.open_brackets.pop().token
            self._report_unclosed(
                opener, (Label(Span(self.name, token.start, token.end), "this closes an outer bracket"),)
            )
            self.output.append(token._replace(kind=ERROR))
            self.open_brackets.pop()
            return
        # With too many `}`, the one indented deeper than the line of its opener is the likely mistake.
        misplaced = (
            is_first_of_line and token.kind == "RBRACE" and self.brace_surplus < 0 and self._is_deeper_than_opener()
        )
        if misplaced or not self.open_brackets or _CLOSER_OF[self.open_brackets[-1].token.kind] != token.kind:
            self._report_stray(token)
            return
        dead = self.open_brackets.pop().is_error
        self.output.append(token._replace(kind=ERROR) if dead else token)

    def _matches_outer(self, token: Token) -> bool:
        return len(self.open_brackets) > 1 and _CLOSER_OF[self.open_brackets[-2].token.kind] == token.kind

    def _is_deeper_than_opener(self) -> bool:
        return bool(self.open_brackets) and self.indent > self.open_brackets[-1].indent

    def _report_stray(self, token: Token) -> None:
        bracket = _BRACKET_TEXT[token.kind]
        span = Span(self.name, token.start, token.end)
        if token.kind == "RBRACE":
            self.brace_surplus += 1
            help = "remove it, or add the missing `{`"
            self.diagnostics.append(Diagnostic("stray-brace", f"unmatched `{bracket}`", help, span=span))
            return
        help = "remove it, or add the missing opening bracket"
        self.diagnostics.append(Diagnostic("stray-bracket", f"unmatched `{bracket}`", help, span=span))
        self.output.append(token._replace(kind=ERROR))

    def _finish_file(self, token: Token) -> None:
        self._abandon_brackets()
        while self.open_brackets:
            if self.brace_surplus > 0:
                self._close_brace(token)
            elif not self.open_brackets.pop().is_error:
                self._append_marker("RBRACE", token)
        self.output.append(token)

    def _append_marker(self, kind: str, anchor: Token) -> None:
        at = anchor.start - len(anchor.trivia) if kind != ERROR else anchor.end
        self.output.append(Token(kind, "", at, at, ""))


def diagnose_deep_nesting(span: Span) -> Diagnostic:
    """Return the diagnostic for nesting beyond the limit of the language."""
    message = f"nesting is deeper than {MAX_BRACKETS} levels"
    return Diagnostic("nesting-too-deep", message, "bind inner parts to names, for example `let part = …`", span=span)


def measure_line_indent(tokens: Sequence[Token], index: int) -> int:
    """Return the indentation, in columns, of the line with ``tokens[index]``."""
    while index and "\n" not in tokens[index].trivia:
        index -= 1
    return _measure_indent(tokens[index])


def _measure_indent(token: Token) -> int:
    return len(token.trivia.rpartition("\n")[2].expandtabs(8))
