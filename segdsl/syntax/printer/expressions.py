"""Printing of expressions: every token goes, in order, into a document that marks where its lines may break."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any

from segdsl.syntax import tree
from segdsl.syntax.printer.pretty import HARD, SOFT, SPACE, Comment, Doc, Group, IfBroken, Indent, Line
from segdsl.syntax.tokens import Token

HUGGABLE_TYPES = (tree.ListExpr, tree.Comprehension, tree.Call)
"""Expressions that start on the line of the enclosing bracket when they are its only content."""


class TokenStream:
    """The tokens of a file in order, with the comments between them.

    The printers consume it from front to back, so no token or comment can be lost or printed twice;
    :attr:`is_exhausted` verifies that at the end.
    """

    def __init__(self, tokens: Sequence[Token]) -> None:
        self.tokens = [token for token in tokens if token.text or token is tokens[-1]]
        self.index = 0
        self.last_index = -1
        self._ends = [token.end for token in self.tokens]
        self._comments_above: dict[int, list[str]] = {}
        self._trailing_comments: dict[int, str] = {}
        for number, token in enumerate(self.tokens):
            if "#" in token.trivia or "\n" in token.trivia:
                self._collect_comments(number, token.trivia)

    def _collect_comments(self, number: int, trivia: str) -> None:
        lines = [line.lstrip("\ufeff").strip() for line in trivia.split("\n")]
        # Trivia starts on the line of the previous token and ends on the line of the next one: the first piece is a
        # trailing comment, the last one the next token's indentation.
        if number:
            if lines[0]:
                self._trailing_comments[number - 1] = lines[0]
            lines = lines[1:]
        if number < len(self.tokens) - 1:
            del lines[-1:]
        if lines:
            self._comments_above[number] = lines

    def enter_statement(self, end: int) -> None:
        """Start the statement that ends at offset ``end``."""
        # The comment behind a statement's last token is printed by the statement printer, not by the expression.
        self.last_index = bisect_left(self._ends, end)

    @property
    def next_token(self) -> Token:
        return self.tokens[self.index]

    @property
    def is_exhausted(self) -> bool:
        """Whether every comment and every token, except the empty last one, has been printed."""
        left = [*self._trailing_comments.values(), *(line for lines in self._comments_above.values() for line in lines)]
        return self.index == len(self.tokens) - 1 and not any(left)

    @property
    def previous_text(self) -> str:
        return self.tokens[self.index - 1].text

    def take_word(self) -> str:
        """Consume the next token in a place where no comment can be."""
        self.index += 1
        return self.tokens[self.index - 1].text

    def take_comments_above(self) -> list[str]:
        """Consume the comments and empty lines above the next token; an empty string is an empty line."""
        return self._comments_above.pop(self.index, [])

    def take_trailing_comment(self) -> str:
        """Consume the comment behind the previous token."""
        return self._trailing_comments.pop(self.index - 1, "")

    def has_comment_ahead(self) -> bool:
        """Return whether there is a comment between the previous token and the next."""
        return self.index - 1 in self._trailing_comments or any(self._comments_above.get(self.index, ()))

    def take_comments(self) -> list[Doc]:
        """Consume the comments between the previous token and the next."""
        behind = self.take_trailing_comment()
        parts: list[Doc] = [Comment(behind)] if behind else []
        return [*parts, *(Comment(line, has_own_line=True) for line in self.take_comments_above() if line)]

    def take_token(self) -> Doc:
        """Consume the next token with the comments around it."""
        parts: list[Doc] = [Comment(line, has_own_line=True) for line in self.take_comments_above() if line]
        parts.append(self.take_word())
        # A comma or closing bracket that follows belongs in front of the trailing comment, and takes it over.
        if self.index - 1 != self.last_index and self.next_token.text not in CLOSING_TEXTS:
            behind = self.take_trailing_comment()
            if behind:
                parts.append(Comment(behind))
        return parts if len(parts) > 1 else parts[0]

    def take_comma(self) -> Doc:
        """Consume a comma. Comments in front of it move behind it, so that the comma stays next to its element."""
        comments = self.take_comments()
        text = self.take_word()
        behind = self.take_trailing_comment()
        return [text, *comments, *([Comment(behind, has_own_line=bool(comments))] if behind else [])]


CLOSING_TEXTS = frozenset((",", ")", "]"))


class ExpressionPrinter:
    """Turns expressions into documents.

    Inside brackets a line may break before an operator; elsewhere only where a newline does not end the statement.
    ``depth`` counts the open brackets.
    """

    def __init__(self, source: TokenStream) -> None:
        self.source = source
        self.take_token = source.take_token
        self.depth = 0
        self.in_note = False
        self._printers: dict[type, Callable[..., Doc]] = {
            tree.Constant: self._format_word,
            tree.SizeLiteral: self._format_word,
            tree.Name: self._format_word,
            tree.QuantityLiteral: self._format_quantity,
            tree.RangeExpr: self._format_range,
            tree.Attribute: self._format_attribute,
            tree.Call: self._format_call,
            tree.Index: self._format_index,
            tree.Unary: self._format_unary,
            tree.Binary: self._format_binary,
            tree.If: self._format_if,
            tree.ListExpr: self._format_list,
            tree.Comprehension: self._format_comprehension,
            tree.Flow: self._format_flow,
        }

    def format_expr(self, node: tree.Expr) -> Doc:
        """Format a node, with the parentheses that it has in the source."""
        # Comments stay outside the node's group: a comment inside would force the whole group to break.
        if self.source.has_comment_ahead():
            return [*self.source.take_comments(), self.format_expr(node)]
        token = self.source.next_token
        # The tree drops parentheses, but a node's span starts inside of them.
        if token.text == "(" and token.start < node.span.start:
            opening = self.take_token()
            hug = isinstance(node, HUGGABLE_TYPES) and not self._has_comment_inside(opening)
            self.depth += 1
            inner = self.format_expr(node)
            self.depth -= 1
            return self._enclose_in_brackets(opening, [inner], hug)
        return self._printers[type(node)](node)

    def _has_comment_inside(self, opening: Doc) -> bool:
        """Return whether a comment directly follows the bracket just consumed."""
        return not isinstance(opening, str) or self.source.has_comment_ahead()

    def _enclose_in_brackets(self, opening: Doc, inner: list[Doc], hug: bool = False) -> Doc:
        """Enclose ``inner`` in brackets and consume the closing one. With ``hug``, no line breaks next to them."""
        comments = self.source.take_comments()
        # A trailing comma is printed only where the list is broken over several lines; a hugged one never is.
        if hug and not comments:
            return [opening, *(part for part in inner if not isinstance(part, IfBroken)), self.take_token()]
        closing, *behind = _as_list(self.take_token())
        if not inner:
            return [opening, Indent(comments), closing, *behind]
        return [Group([opening, Indent([SOFT, *inner, *comments]), SOFT, closing]), *behind]

    def _format_items(
        self, items: Sequence[Any], format_item: Callable[..., Doc], only_item: tree.Expr | None = None
    ) -> Doc:
        """Format a bracketed list; ``only_item`` is its single expression, if that may start on the bracket's line."""
        opening = self.take_token()
        hug = isinstance(only_item, HUGGABLE_TYPES) and not self._has_comment_inside(opening)
        parts: list[Doc] = []
        self.depth += 1
        for number, item in enumerate(items):
            parts.append(format_item(item))
            if number < len(items) - 1:
                parts += [self.source.take_comma(), SPACE]
        self.depth -= 1
        if self.source.next_token.text == ",":
            _, *comments = _as_list(self.source.take_comma())
            parts += [IfBroken(","), *comments]
            hug = hug and not comments
        elif items:
            parts.append(IfBroken(","))
        return self._enclose_in_brackets(opening, parts, hug)

    # --- one method per kind of node ---

    def _format_word(self, node: tree.Expr) -> Doc:
        return self.take_token()

    def _format_quantity(self, node: tree.QuantityLiteral) -> Doc:
        return [self.take_token(), " ", self.take_token()]

    def _format_range(self, node: tree.RangeExpr) -> Doc:
        return [self.format_expr(node.low), self.take_token(), self.format_expr(node.high)]

    def _format_attribute(self, node: tree.Attribute) -> Doc:
        return [self.format_expr(node.value), self.take_token(), self.take_token()]

    def _format_index(self, node: tree.Index) -> Doc:
        value = self.format_expr(node.value)
        opening = self.take_token()
        self.depth += 1
        inner = self.format_expr(node.index)
        self.depth -= 1
        return [value, self._enclose_in_brackets(opening, [inner])]

    def _format_call(self, node: tree.Call) -> Doc:
        func = self.format_expr(node.func)
        sole = node.args[0].value if len(node.args) == 1 else None
        return [func, self._format_items(node.args, self._format_argument, sole)]  # type: ignore[arg-type]

    def _format_argument(self, node: tree.Argument) -> Doc:
        if node.name is None:
            return self.format_expr(node.value)
        return [self.take_token(), " ", self.take_token(), " ", self.format_expr(node.value)]

    def format_parameters(self, nodes: Sequence[tree.Parameter]) -> Doc:
        """Format the parameter list of a block."""
        return self._format_items(nodes, self._format_parameter)  # type: ignore[arg-type]

    def _format_parameter(self, node: tree.Parameter) -> Doc:
        parts: list[Doc] = [self.take_token(), self.take_token(), " ", self.take_token()]
        if node.default is not None:
            parts += [" ", self.take_token(), " ", self.format_expr(node.default)]
        return parts

    def format_note(self, node: tree.ShapeNote) -> Doc:
        """Format a shape, in which a division has no spaces (`H/4`), or the kind `list`."""
        if node.dims is None:
            return self.take_token()
        outer, self.in_note = self.in_note, True
        doc = self._format_items(node.dims, self.format_expr)
        self.in_note = outer
        return doc

    def _format_list(self, node: tree.ListExpr) -> Doc:
        return self._format_items(node.items, self.format_expr, node.items[0] if len(node.items) == 1 else None)

    def _format_unary(self, node: tree.Unary) -> Doc:
        return [self.take_token(), " " if node.op == "not" else "", self.format_expr(node.operand)]

    def _format_binary(self, node: tree.Binary) -> Doc:
        """Format a chain of operators of equal precedence as one group: all of them break, or none."""
        chain = [node]
        # The tree leans left, so a loop collects the chain; parentheses in the source end it.
        while isinstance(left := chain[-1].left, tree.Binary) and _PRECEDENCE[left.op] == _PRECEDENCE[node.op]:
            if self._is_parenthesized(left, chain[-1]):
                break
            chain.append(left)
        first = self.format_expr(chain[-1].left)
        rest: list[Doc] = []
        for link in reversed(chain):
            tight = self.in_note and link.op == "/"
            gap: Doc = "" if tight else SPACE if self.depth else " "
            rest += [gap, self.take_token(), "" if tight else " ", self.format_expr(link.right)]
        return Group([first, Indent(rest)])

    @staticmethod
    def _is_parenthesized(left: tree.Expr, parent: tree.Binary) -> bool:
        return left.span.start > parent.span.start

    def _format_if(self, node: tree.If) -> Doc:
        """Format a conditional; the branches of an `else if` chain are aligned in one column."""
        parts: list[Doc] = []
        while True:
            test: list[Doc] = [self.take_token(), " ", self.format_expr(node.test)]
            then: list[Doc] = [SPACE, self.take_token(), " ", self.format_expr(node.then)]
            parts += [Group([*test, Indent(then)]), SPACE, self.take_token(), " "]
            if not isinstance(node.other, tree.If) or self.source.next_token.text != "if":
                break
            node = node.other
        first, *others = parts
        return Group([first, Indent([*others, self.format_expr(node.other)])])

    def _format_comprehension(self, node: tree.Comprehension) -> Doc:
        opening = self.take_token()
        hug = isinstance(node.element, tree.Comprehension) and not self._has_comment_inside(opening)
        self.depth += 1
        element = self.format_expr(node.element)
        clause: list[Doc] = [self.take_token(), " ", self.take_token()]
        for _ in node.targets[1:]:
            clause += [self.source.take_comma(), " ", self.take_token()]
        clause += [" ", self.take_token(), " ", self.format_expr(node.source)]
        if node.start is not None:
            carry: list[Doc] = [
                self.take_token(),
                " ",
                self.take_token(),
                " ",
                self.take_token(),
                " ",
                self.format_expr(node.start),
            ]
            clause.append(Indent([SPACE, *carry]))
        self.depth -= 1
        return self._enclose_in_brackets(opening, [element, " " if hug else SPACE, Group(clause)], hug)

    def _format_flow(self, node: tree.Flow) -> Doc:
        """Format a flow: one arrow per line if the author broke before any arrow or the line is too long."""
        # A single arrow stays behind the bracket that closes its source: `[a, b] -> Concat()`.
        bracketed = self.source.next_token.text in ("(", "[") and len(node.steps) == 1
        source = self.format_expr(node.source)
        bracketed = bracketed and self.source.previous_text in (")", "]")
        arrows: list[Doc] = []
        broken = False
        # Whether the author broke the flow is known only after all steps are consumed, hence the placeholder.
        for step in node.steps:
            broken = broken or "\n" in self.source.next_token.trivia
            arrows += [ARROW_GAP, self.take_token(), " ", self._format_step(step)]
        gap: Doc = HARD if broken else " " if bracketed else SPACE
        return Group([source, Indent([gap if part is ARROW_GAP else part for part in arrows])])

    def _format_step(self, node: tree.Step) -> Doc:
        parts: list[Doc] = [self.take_token(), " "] if node.each else []
        parts.append(self.format_expr(node.component))
        if node.repeat is not None:
            parts += [" ", self.take_token(), " ", self.format_expr(node.repeat)]
        if node.name is not None:
            parts += [" ", self.take_token(), " ", self.take_token()]
        if node.note is not None:
            parts += [self.take_token(), " ", self.format_note(node.note)]
        return parts


ARROW_GAP = Line()
"""Placeholder before each arrow of a flow, replaced once it is known whether the flow breaks."""
_PRECEDENCE = {
    "or": 0,
    "and": 1,
    "==": 2,
    "!=": 2,
    "<": 2,
    "<=": 2,
    ">": 2,
    ">=": 2,
    "+": 3,
    "-": 3,
    "*": 4,
    "/": 4,
    "//": 4,
    "**": 5,
}


def _as_list(doc: Doc) -> list[Doc]:
    return doc if isinstance(doc, list) else [doc]
