"""The place where parsing stopped, and the words for what stands and for what could stand there."""

from __future__ import annotations

from typing import NamedTuple

from segdsl.diagnostics import Diagnostic, Fix, Label, Span
from segdsl.syntax.lexer import END, KEYWORDS, MARKS, Token
from segdsl.syntax.line_ends import NEWLINE

NOTHING = frozenset({NEWLINE, END, "RBRACE"})
"""What stands where a statement is at its end."""
CLOSING = NOTHING | {"RPAR", "RSQB", "COMMA"}
VALUE_STARTS = frozenset({"NAME", "INT", "FLOAT", "SIZE", "STRING", "TRUE", "FALSE", "NONE", "LSQB", "LPAR"})
KEYWORD_KINDS = frozenset(word.upper() for word in KEYWORDS)

_BEFORE_VALUES = (("EQUAL", "`=`"), ("COLON", "`:`"), ("LBRACE", "`{`"))
_AFTER_VALUES = (
    ("THEN", "`then`"), ("ELSE", "`else`"), ("IN", "`in`"), ("RPAR", "`)`"), ("RSQB", "`]`"), ("COMMA", "`,`"),
    (NEWLINE, "the end of the line"), ("EQUAL", "`=`"),
)  # fmt: skip


class Problem(NamedTuple):
    """``tokens[at]`` fits nowhere in the statement that begins at ``tokens[start]``; only ``expected`` terminals would.

    ``level`` is the rule of the statements here: `statement`, `block_statement`, or "" in an option.
    """

    name: str
    tokens: list[Token]
    at: int
    start: int
    expected: frozenset[str]
    level: str

    @property
    def found(self) -> Token:
        return self.tokens[self.at]

    @property
    def first(self) -> Token:
        return self.tokens[self.start]

    def near(self, distance: int) -> Token:
        """The token at a distance from the one found, or the last one of the file where there is none."""
        index = self.at + distance
        return self.tokens[index] if 0 <= index < len(self.tokens) else self.tokens[-1]

    @property
    def before(self) -> Token:
        """The token in front of the one found; `$END` at the very start."""
        return self.near(-1)

    def glued(self, left: Token, right: Token) -> bool:
        """Whether nothing stands between two tokens."""
        return left.end == right.start

    @property
    def after_value(self) -> bool:
        """Whether a whole value stands in front."""
        return "PLUS" in self.expected and "INT" not in self.expected

    @property
    def value_expected(self) -> bool:
        return "INT" in self.expected

    @property
    def two_integers(self) -> bool:
        """Whether the token found stands between two whole numbers and nothing else: `128, 128`."""
        ends = (self.near(-1).kind, self.near(1).kind) == ("INT", "INT")
        return ends and self.near(2).kind in CLOSING and self.near(-2).kind in ("EQUAL", "LPAR")

    def opener(self) -> int | None:
        """The index of the innermost `(` or `[` of the statement that is open."""
        depth = 0
        for index in range(self.at - 1, self.start - 1, -1):
            kind = self.tokens[index].kind
            if kind in ("RPAR", "RSQB"):
                depth += 1
            elif kind in ("LPAR", "LSQB"):
                if not depth:
                    return index
                depth -= 1
        return None

    def has(self, kind: str, begin: int | None = None) -> bool:
        """Whether a token of this kind stands in the statement so far, or since ``begin``."""
        return any(t.kind == kind for t in self.tokens[self.start if begin is None else begin : self.at])

    def span(self, token: Token | None = None) -> Span:
        """Where a token stands; for an end of a line or of the file, right behind what stands before."""
        token = token or self.found
        if token is self.found and not token.text and self.at:
            return Span(self.name, self.before.end, self.before.end)
        return Span(self.name, token.start, token.end)

    def tell(
        self,
        slug: str,
        message: str,
        help: str,
        *,
        at: Token | None = None,
        fix: tuple[int, int, str] | None = None,
        labels: tuple[Label, ...] = (),
    ) -> Diagnostic:
        """A finding at ``at``, or at the token found; ``fix`` is start, end and replacement."""
        repair = Fix(Span(self.name, fix[0], fix[1]), fix[2]) if fix else None
        return Diagnostic(slug, message, help, span=self.span(at), labels=labels, fix=repair)


def shown(problem: Problem, token: Token) -> str:
    """A token in words."""
    if token.kind == NEWLINE:
        return "the end of the line"
    if token.kind == END:
        return "the end of the file" if problem.level else "the end of the option"
    if not token.text:
        return "the end of the section" if problem.level == "statement" else "the end of the block"
    text = token.text if len(token.text) <= 40 else token.text[:39] + "…"
    return f"`{text}`"


def wanted(problem: Problem) -> str:
    """What could stand where the problem is, in words."""
    expected = problem.expected
    if problem.at == problem.start:
        return "a statement or `}`" if "RBRACE" in expected else "a statement"
    if problem.value_expected:
        parts = ["a value"]
    elif problem.after_value:
        parts = [text for kind, text in _AFTER_VALUES if kind in expected] or ["`->`"]
        if END in expected and NEWLINE not in expected:
            parts.append("the end of the file" if problem.level else "the end of the option")
        if problem.found.kind in VALUE_STARTS:
            parts.insert(0, "an operator")
    elif "NAME" in expected:
        parts = ["a name"]
    elif "STRING" in expected:
        parts = ["a text in double quotes"]
    else:
        parts = [text for kind, text in _BEFORE_VALUES if kind in expected]
    if not parts:
        implied = {"DOT", END, "RBRACE"} if NEWLINE in expected else {"DOT"}
        parts = sorted(_plain(kind) for kind in expected - implied or expected)
    return " or ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def _plain(kind: str) -> str:
    for symbol, text in _AFTER_VALUES:
        if symbol == kind:
            return text
    plain = {"INT": "a whole number", "NAME": "a name", "STRING": "a text in double quotes", END: "the end of the file"}
    mark = next((mark for mark, terminal in MARKS.items() if terminal == kind), kind.lower())
    return plain.get(kind, f"`{mark}`")
