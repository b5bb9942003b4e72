"""Printing of expressions: every token goes, in order, into a document that marks where its lines may break."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any

from segdsl.syntax import tree
from segdsl.syntax.lexer import Token
from segdsl.syntax.printer.pretty import HARD, NOTHING, SPACE, Comment, Doc, Group, IfBroken, Indent, Line

HUGGED = (tree.ListExpr, tree.Comprehension, tree.Call)
"""Expressions that start on the line of the enclosing bracket when they are its only content."""


class Source:
    """The tokens of a file in order, with the comments between them.

    The printers consume it from front to back, so no token or comment can be lost or printed twice;
    :attr:`is_exhausted` verifies that at the end.
    """

    def __init__(self, tokens: Sequence[Token]) -> None:
        self.tokens = [token for token in tokens if token.text or token is tokens[-1]]
        self.at = 0
        self.last = -1
        self._ends = [token.end for token in self.tokens]
        self._above: dict[int, list[str]] = {}
        self._behind: dict[int, str] = {}
        for number, token in enumerate(self.tokens):
            if "#" in token.trivia or "\n" in token.trivia:
                self._comments(number, token.trivia)

    def _comments(self, number: int, trivia: str) -> None:
        lines = [line.lstrip("\ufeff").strip() for line in trivia.split("\n")]
        # Trivia starts on the line of the previous token and ends on the line of the next one: the first piece is a
        # trailing comment, the last one the next token's indentation.
        if number:
            if lines[0]:
                self._behind[number - 1] = lines[0]
            lines = lines[1:]
        if number < len(self.tokens) - 1:
            del lines[-1:]
        if lines:
            self._above[number] = lines

    def enter(self, end: int) -> None:
        """Start the statement that ends at offset ``end``."""
        # The comment behind a statement's last token is printed by the statement printer, not by the expression.
        self.last = bisect_left(self._ends, end)

    @property
    def next(self) -> Token:
        return self.tokens[self.at]

    @property
    def used_up(self) -> bool:
        """Whether every comment and every token, except the empty last one, has been printed."""
        left = [*self._behind.values(), *(line for lines in self._above.values() for line in lines)]
        return self.at == len(self.tokens) - 1 and not any(left)

    @property
    def last_text(self) -> str:
        return self.tokens[self.at - 1].text

    def word(self) -> str:
        """Consume the next token in a place where no comment can be."""
        self.at += 1
        return self.tokens[self.at - 1].text

    def above(self) -> list[str]:
        """Consume the comments and empty lines above the next token; an empty string is an empty line."""
        return self._above.pop(self.at, [])

    def behind(self) -> str:
        """Consume the comment behind the previous token."""
        return self._behind.pop(self.at - 1, "")

    def commented(self) -> bool:
        """Return whether there is a comment between the previous token and the next."""
        return self.at - 1 in self._behind or any(self._above.get(self.at, ()))

    def comments(self) -> list[Doc]:
        """Consume the comments between the previous token and the next."""
        behind = self.behind()
        parts: list[Doc] = [Comment(behind)] if behind else []
        return [*parts, *(Comment(line, alone=True) for line in self.above() if line)]

    def take(self) -> Doc:
        """Consume the next token with the comments around it."""
        parts: list[Doc] = [Comment(line, alone=True) for line in self.above() if line]
        parts.append(self.word())
        # A comma or closing bracket that follows belongs in front of the trailing comment, and takes it over.
        if self.at - 1 != self.last and self.next.text not in CLOSING:
            behind = self.behind()
            if behind:
                parts.append(Comment(behind))
        return parts if len(parts) > 1 else parts[0]

    def comma(self) -> Doc:
        """Consume a comma. Comments in front of it move behind it, so that the comma stays next to its element."""
        comments = self.comments()
        text = self.word()
        behind = self.behind()
        return [text, *comments, *([Comment(behind, alone=bool(comments))] if behind else [])]


CLOSING = frozenset((",", ")", "]"))


class Expressions:
    """Turns expressions into documents.

    Inside brackets a line may break before an operator; elsewhere only where a newline does not end the statement.
    ``depth`` counts the open brackets.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.take = source.take
        self.depth = 0
        self.in_note = False
        self._printers: dict[type, Callable[..., Doc]] = {
            tree.Constant: self._word,
            tree.SizeLiteral: self._word,
            tree.Name: self._word,
            tree.QuantityLiteral: self._quantity,
            tree.RangeExpr: self._range,
            tree.Attribute: self._attribute,
            tree.Call: self._call,
            tree.Index: self._index,
            tree.Unary: self._unary,
            tree.Binary: self._binary,
            tree.If: self._if,
            tree.ListExpr: self._list,
            tree.Comprehension: self._comprehension,
            tree.Flow: self._flow,
        }

    def expr(self, node: tree.Expr) -> Doc:
        """Format a node, with the parentheses that it has in the source."""
        # Comments stay outside the node's group: a comment inside would force the whole group to break.
        if self.source.commented():
            return [*self.source.comments(), self.expr(node)]
        token = self.source.next
        # The tree drops parentheses, but a node's span starts inside of them.
        if token.text == "(" and token.start < node.span.start:
            opening = self.take()
            hug = isinstance(node, HUGGED) and not self._comment_inside(opening)
            self.depth += 1
            inner = self.expr(node)
            self.depth -= 1
            return self._enclosed(opening, [inner], hug)
        return self._printers[type(node)](node)

    def _comment_inside(self, opening: Doc) -> bool:
        """Return whether a comment directly follows the bracket just consumed."""
        return not isinstance(opening, str) or self.source.commented()

    def _enclosed(self, opening: Doc, inner: list[Doc], hug: bool = False) -> Doc:
        """Enclose ``inner`` in brackets and consume the closing one. With ``hug``, no line breaks next to them."""
        comments = self.source.comments()
        # A trailing comma is printed only where the list is broken over several lines; a hugged one never is.
        if hug and not comments:
            return [opening, *(part for part in inner if not isinstance(part, IfBroken)), self.take()]
        closing, *behind = _as_list(self.take())
        if not inner:
            return [opening, Indent(comments), closing, *behind]
        return [Group([opening, Indent([NOTHING, *inner, *comments]), NOTHING, closing]), *behind]

    def _items(self, items: Sequence[Any], show: Callable[..., Doc], sole: tree.Expr | None = None) -> Doc:
        """Format a bracketed list; ``only_item`` is its single expression, if that may start on the bracket's line."""
        opening = self.take()
        hug = isinstance(sole, HUGGED) and not self._comment_inside(opening)
        parts: list[Doc] = []
        self.depth += 1
        for number, item in enumerate(items):
            parts.append(show(item))
            if number < len(items) - 1:
                parts += [self.source.comma(), SPACE]
        self.depth -= 1
        if self.source.next.text == ",":
            _, *comments = _as_list(self.source.comma())
            parts += [IfBroken(","), *comments]
            hug = hug and not comments
        elif items:
            parts.append(IfBroken(","))
        return self._enclosed(opening, parts, hug)

    # --- one method per kind of node ---

    def _word(self, node: tree.Expr) -> Doc:
        return self.take()

    def _quantity(self, node: tree.QuantityLiteral) -> Doc:
        return [self.take(), " ", self.take()]

    def _range(self, node: tree.RangeExpr) -> Doc:
        return [self.expr(node.low), self.take(), self.expr(node.high)]

    def _attribute(self, node: tree.Attribute) -> Doc:
        return [self.expr(node.value), self.take(), self.take()]

    def _index(self, node: tree.Index) -> Doc:
        value = self.expr(node.value)
        opening = self.take()
        self.depth += 1
        inner = self.expr(node.index)
        self.depth -= 1
        return [value, self._enclosed(opening, [inner])]

    def _call(self, node: tree.Call) -> Doc:
        func = self.expr(node.func)
        sole = node.args[0].value if len(node.args) == 1 else None
        return [func, self._items(node.args, self._argument, sole)]  # type: ignore[arg-type]

    def _argument(self, node: tree.Argument) -> Doc:
        if node.name is None:
            return self.expr(node.value)
        return [self.take(), " ", self.take(), " ", self.expr(node.value)]

    def parameters(self, nodes: Sequence[tree.Parameter]) -> Doc:
        """Format the parameter list of a block."""
        return self._items(nodes, self._parameter)  # type: ignore[arg-type]

    def _parameter(self, node: tree.Parameter) -> Doc:
        parts: list[Doc] = [self.take(), self.take(), " ", self.take()]
        if node.default is not None:
            parts += [" ", self.take(), " ", self.expr(node.default)]
        return parts

    def note(self, node: tree.ShapeNote) -> Doc:
        """Format a shape, in which a division has no spaces (`H/4`), or the kind `list`."""
        if node.dims is None:
            return self.take()
        outer, self.in_note = self.in_note, True
        doc = self._items(node.dims, self.expr)
        self.in_note = outer
        return doc

    def _list(self, node: tree.ListExpr) -> Doc:
        return self._items(node.items, self.expr, node.items[0] if len(node.items) == 1 else None)

    def _unary(self, node: tree.Unary) -> Doc:
        return [self.take(), " " if node.op == "not" else "", self.expr(node.operand)]

    def _binary(self, node: tree.Binary) -> Doc:
        """Format a chain of operators of equal precedence as one group: all of them break, or none."""
        chain = [node]
        # The tree leans left, so a loop collects the chain; parentheses in the source end it.
        while isinstance(left := chain[-1].left, tree.Binary) and _RANK[left.op] == _RANK[node.op]:
            if self._parenthesised(left, chain[-1]):
                break
            chain.append(left)
        first = self.expr(chain[-1].left)
        rest: list[Doc] = []
        for link in reversed(chain):
            tight = self.in_note and link.op == "/"
            gap: Doc = "" if tight else SPACE if self.depth else " "
            rest += [gap, self.take(), "" if tight else " ", self.expr(link.right)]
        return Group([first, Indent(rest)])

    @staticmethod
    def _parenthesised(left: tree.Expr, parent: tree.Binary) -> bool:
        return left.span.start > parent.span.start

    def _if(self, node: tree.If) -> Doc:
        """Format a conditional; the branches of an `else if` chain are aligned in one column."""
        parts: list[Doc] = []
        while True:
            test: list[Doc] = [self.take(), " ", self.expr(node.test)]
            then: list[Doc] = [SPACE, self.take(), " ", self.expr(node.then)]
            parts += [Group([*test, Indent(then)]), SPACE, self.take(), " "]
            if not isinstance(node.other, tree.If) or self.source.next.text != "if":
                break
            node = node.other
        first, *others = parts
        return Group([first, Indent([*others, self.expr(node.other)])])

    def _comprehension(self, node: tree.Comprehension) -> Doc:
        opening = self.take()
        hug = isinstance(node.element, tree.Comprehension) and not self._comment_inside(opening)
        self.depth += 1
        element = self.expr(node.element)
        clause: list[Doc] = [self.take(), " ", self.take()]
        for _ in node.targets[1:]:
            clause += [self.source.comma(), " ", self.take()]
        clause += [" ", self.take(), " ", self.expr(node.source)]
        if node.start is not None:
            carry: list[Doc] = [self.take(), " ", self.take(), " ", self.take(), " ", self.expr(node.start)]
            clause.append(Indent([SPACE, *carry]))
        self.depth -= 1
        return self._enclosed(opening, [element, " " if hug else SPACE, Group(clause)], hug)

    def _flow(self, node: tree.Flow) -> Doc:
        """Format a flow: one arrow per line if the author broke before any arrow or the line is too long."""
        # A single arrow stays behind the bracket that closes its source: `[a, b] -> Concat()`.
        bracketed = self.source.next.text in ("(", "[") and len(node.steps) == 1
        source = self.expr(node.source)
        bracketed = bracketed and self.source.last_text in (")", "]")
        arrows: list[Doc] = []
        broken = False
        # Whether the author broke the flow is known only after all steps are consumed, hence the placeholder.
        for step in node.steps:
            broken = broken or "\n" in self.source.next.trivia
            arrows += [GAP, self.take(), " ", self._step(step)]
        gap: Doc = HARD if broken else " " if bracketed else SPACE
        return Group([source, Indent([gap if part is GAP else part for part in arrows])])

    def _step(self, node: tree.Step) -> Doc:
        parts: list[Doc] = [self.take(), " "] if node.each else []
        parts.append(self.expr(node.component))
        if node.repeat is not None:
            parts += [" ", self.take(), " ", self.expr(node.repeat)]
        if node.name is not None:
            parts += [" ", self.take(), " ", self.take()]
        if node.note is not None:
            parts += [self.take(), " ", self.note(node.note)]
        return parts


GAP = Line()
"""Placeholder before each arrow of a flow, replaced once it is known whether the flow breaks."""
_RANK = {"or": 0, "and": 1, "==": 2, "!=": 2, "<": 2, "<=": 2, ">": 2, ">=": 2, "+": 3, "-": 3, "*": 4, "/": 4, "//": 4,
         "**": 5}  # fmt: skip


def _as_list(doc: Doc) -> list[Doc]:
    return doc if isinstance(doc, list) else [doc]
