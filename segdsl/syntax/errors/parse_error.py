"""The place where parsing stopped, and descriptions of the token found and of those expected there."""

from __future__ import annotations

from typing import NamedTuple

from segdsl.diagnostics import Diagnostic, Fix, Span
from segdsl.syntax.line_ends import NEWLINE
from segdsl.syntax.tokens import END, KEYWORDS, MARKS, Token

STATEMENT_ENDS = frozenset({NEWLINE, END, "RBRACE"})
"""Kinds of tokens that end a statement."""
CLOSING_KINDS = STATEMENT_ENDS | {"RPAR", "RSQB", "COMMA"}
VALUE_STARTS = frozenset({"NAME", "INT", "FLOAT", "SIZE", "STRING", "TRUE", "FALSE", "NONE", "LSQB", "LPAR"})
KEYWORD_KINDS = frozenset(word.upper() for word in KEYWORDS)

_BEFORE_VALUES = (("EQUAL", "`=`"), ("COLON", "`:`"), ("LBRACE", "`{`"))
_AFTER_VALUES = (
    ("THEN", "`then`"), ("ELSE", "`else`"), ("IN", "`in`"), ("RPAR", "`)`"), ("RSQB", "`]`"), ("COMMA", "`,`"),
    (NEWLINE, "the end of the line"), ("EQUAL", "`=`"),
)  # fmt: skip


class Problem(NamedTuple):
    """A token that does not fit, with its surroundings.

    ``tokens[position]`` does not fit into the statement that begins at ``tokens[start]``; only the terminals in
    ``expected`` would. ``level`` is the grammar rule of the statements here: `statement` at the top level and in
    sections, `block_statement` in blocks, "" in a `--set` option.
    """

    name: str
    tokens: list[Token]
    position: int
    start: int
    expected: frozenset[str]
    level: str

    @property
    def token(self) -> Token:
        return self.tokens[self.position]

    @property
    def first(self) -> Token:
        return self.tokens[self.start]

    def peek(self, distance: int) -> Token:
        """Return the token ``distance`` tokens away, or the last one of the file (`$END`) outside of its range."""
        index = self.position + distance
        return self.tokens[index] if 0 <= index < len(self.tokens) else self.tokens[-1]

    @property
    def previous(self) -> Token:
        """The token in front of the unexpected one; `$END` at the start of the file."""
        return self.peek(-1)

    def are_adjacent(self, left: Token, right: Token) -> bool:
        """Return whether there is nothing between two tokens."""
        return left.end == right.start

    @property
    def has_value_before(self) -> bool:
        """Whether a complete value precedes the token."""
        # A sign can start a value as well, so PLUS alone would not tell `1 |` from `= |`.
        return "PLUS" in self.expected and "INT" not in self.expected

    @property
    def needs_value(self) -> bool:
        return "INT" in self.expected

    @property
    def is_between_integers(self) -> bool:
        """Whether the token is between two integers that make up the whole value: `128, 128`."""
        ends = (self.peek(-1).kind, self.peek(1).kind) == ("INT", "INT")
        return ends and self.peek(2).kind in CLOSING_KINDS and self.peek(-2).kind in ("EQUAL", "LPAR")

    def find_opener(self) -> int | None:
        """Return the index of the innermost open `(` or `[` of the statement."""
        depth = 0
        for index in range(self.position - 1, self.start - 1, -1):
            kind = self.tokens[index].kind
            if kind in ("RPAR", "RSQB"):
                depth += 1
            elif kind in ("LPAR", "LSQB"):
                if not depth:
                    return index
                depth -= 1
        return None

    def has_kind(self, kind: str, begin: int | None = None) -> bool:
        """Return whether the statement so far, or from index ``begin`` on, has a token of this kind."""
        return any(t.kind == kind for t in self.tokens[self.start if begin is None else begin : self.position])

    def locate_token(self, token: Token | None = None) -> Span:
        """Return the span of a token (by default the unexpected one)."""
        token = token or self.token
        # A newline has no text of its own: point right behind the previous token instead.
        if token is self.token and not token.text and self.position:
            return Span(self.name, self.previous.end, self.previous.end)
        return Span(self.name, token.start, token.end)

    def diagnose(
        self,
        slug: str,
        message: str,
        help: str,
        *,
        token: Token | None = None,
        fix: tuple[int, int, str] | None = None,
    ) -> Diagnostic:
        """Return a diagnostic at ``token``, by default the unexpected one; ``fix`` is (start, end, replacement)."""
        replacement = Fix(Span(self.name, fix[0], fix[1]), fix[2]) if fix else None
        return Diagnostic(slug, message, help, span=self.locate_token(token), fix=replacement)


def describe_token(problem: Problem, token: Token) -> str:
    """Describe a token for a message."""
    if token.kind == NEWLINE:
        return "the end of the line"
    if token.kind == END:
        return "the end of the file" if problem.level else "the end of the option"
    if not token.text:
        return "the end of the section" if problem.level == "statement" else "the end of the block"
    # A string token may be arbitrarily long; the message should stay on one line.
    text = token.text if len(token.text) <= 40 else token.text[:39] + "…"
    return f"`{text}`"


def describe_expected(problem: Problem) -> str:
    """Describe what could be in the place of the unexpected token."""
    # Near a value dozens of terminals fit (every operator, every literal): name the few that help, not all of them.
    expected = problem.expected
    if problem.position == problem.start:
        return "a statement or `}`" if "RBRACE" in expected else "a statement"
    if problem.needs_value:
        return "a value"
    if problem.has_value_before:
        return _join_alternatives(_list_after_value(problem))
    if "NAME" in expected:
        return "a name"
    if "STRING" in expected:
        return "a string in double quotes"
    parts = [text for kind, text in _BEFORE_VALUES if kind in expected]
    if not parts:
        # Where a line may end, the file and the block may end too; naming them adds nothing.
        implied = {"DOT", END, "RBRACE"} if NEWLINE in expected else {"DOT"}
        parts = sorted(_describe_kind(kind) for kind in expected - implied or expected)
    return _join_alternatives(parts)


def _list_after_value(problem: Problem) -> list[str]:
    parts = [text for kind, text in _AFTER_VALUES if kind in problem.expected] or ["`->`"]
    if END in problem.expected and NEWLINE not in problem.expected:
        parts.append("the end of the file" if problem.level else "the end of the option")
    return ["an operator", *parts] if problem.token.kind in VALUE_STARTS else parts


def _join_alternatives(parts: list[str]) -> str:
    return " or ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def _describe_kind(kind: str) -> str:
    for symbol, text in _AFTER_VALUES:
        if symbol == kind:
            return text
    names = {"INT": "an integer", "NAME": "a name", "STRING": "a string in double quotes", END: "the end of the file"}
    mark = next((mark for mark, terminal in MARKS.items() if terminal == kind), kind.lower())
    return names.get(kind, f"`{mark}`")
