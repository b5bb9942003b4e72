"""Construction of tree nodes: one method per production of `grammar/seg.lark`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from segdsl.diagnostics import Diagnostic, Fix, Label, Span
from segdsl.syntax import tree
from segdsl.syntax.lexer_errors import unescape_string
from segdsl.syntax.line_ends import diagnose_deep_nesting
from segdsl.syntax.tokens import Token

T = TypeVar("T")
Report = Callable[[Diagnostic], None]

CONSTANTS = {"TRUE": True, "FALSE": False, "NONE": None}
PYTHON_CONSTANTS = {"True": True, "False": False, "None": None}
MAX_INTEGER = 2**53
"""Largest integer; every integer up to it is exact in double precision."""

MAX_DEPTH = 100
"""Maximum nesting depth of constructs within one statement."""

_new_tuple = tuple.__new__


class TreeBuilder:
    """Builds tree nodes.

    The parser calls a method by the name that the grammar gives its production, with the production's span and
    children. Lists are Python lists until the node that owns them is built.
    """

    def __init__(self, name: str, report: Report) -> None:
        self.file_name = name
        self.report = report

    def _make_ident(self, token: Token) -> tree.Ident:
        return tree.Ident(token[1], _new_tuple(Span, (self.file_name, token[2], token[3])))

    def _make_optional_ident(self, token: Token | None) -> tree.Ident | None:
        return None if token is None else self._make_ident(token)

    def one(self, span: Span, item: T) -> list[T]:
        return [item]

    def more(self, span: Span, items: list[T], item: T) -> list[T]:
        items.append(item)
        return items

    # --- files and statements ---

    def headless(self, span: Span, body: list[tree.Statement] | None) -> tree.File:
        return tree.File(self.file_name, None, "", tuple(body or ()), span)

    def file(self, span: Span, version: int, body: list[tree.Statement] | None) -> tree.File:
        return tree.File(self.file_name, version, "", tuple(body or ()), span)

    def header(self, span: Span, version: Token) -> int:
        return self._parse_integer(version.text, span)

    def override(self, span: Span, statement: tree.Statement) -> tree.Statement:
        return statement

    def import_file(self, span: Span, path: Token, alias: Token | None) -> tree.Import:
        return tree.Import(self._make_string(path), self._make_optional_ident(alias), span)

    def extends(self, span: Span, path: Token) -> tree.Extends:
        return tree.Extends(self._make_string(path), span)

    def _make_string(self, token: Token) -> tree.Constant:
        return tree.Constant(unescape_string(token.text), Span(self.file_name, token.start, token.end))

    def let(self, span: Span, name: Token, value: tree.Expr) -> tree.Statement:
        return self._limit_depth(tree.Let(self._make_ident(name), value, span))

    def _limit_depth(self, statement: tree.Statement) -> tree.Statement:
        return statement if self._check_depth(statement) else tree.ErrorStatement(statement.span)

    def _check_depth(self, node: Any) -> bool:
        """Return whether a node is within the nesting limit; report it if not."""
        # Later passes walk the tree recursively. A node of n characters nests at most n deep: most are settled here.
        span = node.span
        if span.end - span.start <= MAX_DEPTH or not _exceeds_depth(node, MAX_DEPTH):
            return True
        self.report(diagnose_deep_nesting(span))
        return False

    def drop(self, span: Span, path: tuple[tree.Ident, ...]) -> tree.Drop:
        return tree.Drop(path, span)

    def assign(self, span: Span, path: tuple[tree.Ident, ...], value: tree.Expr) -> tree.Statement:
        return self._limit_depth(tree.Assign(path, value, span))

    def section(self, span: Span, path: Any, body: list[tree.Statement] | None) -> tree.Section | tree.ErrorStatement:
        return (
            tree.ErrorStatement(span)
            if isinstance(path, tree.ErrorStatement)
            else tree.Section(path, tuple(body or ()), span)
        )

    def path(self, span: Span, names: list[Token]) -> tuple[tree.Ident, ...]:
        return tuple(map(self._make_ident, names))

    # --- blocks and models ---

    def block(self, span: Span, head: Any, body: list[tree.Statement] | None) -> tree.Block | tree.ErrorStatement:
        if isinstance(head, tree.ErrorStatement):
            return tree.ErrorStatement(span)
        keyword, name, parameters = head
        kind = "block" if keyword.kind == "BLOCK" else "model"
        return tree.Block(kind, self._make_ident(name), parameters, tuple(body or ()), read_doc_above(keyword), span)

    def block_head(
        self, span: Span, keyword: Token, name: Token, parameters: list[tree.Parameter] | None
    ) -> tuple[Token, Token, tuple[tree.Parameter, ...]]:
        return keyword, name, tuple(parameters or ())

    def parameter(self, span: Span, name: Token, kind: Token, default: tree.Expr | None) -> tree.Parameter:
        parameter = tree.Parameter(self._make_ident(name), self._make_ident(kind), default, span)
        if self._check_depth(parameter):
            return parameter
        return tree.Parameter(parameter.name, parameter.type, tree.Constant(None, span), span)

    def input(self, span: Span, name: Token, note: tree.ShapeNote | None) -> tree.In:
        return tree.In(self._make_ident(name), note, span)

    def param(self, span: Span, name: Token, note: tree.ShapeNote, init: tree.Expr) -> tree.Statement:
        return self._limit_depth(tree.Param(self._make_ident(name), note, init, span))

    def binding(self, span: Span, name: Token, value: tree.Expr) -> tree.Statement:
        return self._limit_depth(tree.Assign((self._make_ident(name),), value, span))

    def output(self, span: Span, name: Token, note: tree.ShapeNote | None, value: tree.Expr) -> tree.Statement:
        return self._limit_depth(tree.Out(self._make_ident(name), note, value, span))

    def run(self, span: Span, flow: tree.Flow) -> tree.Statement:
        return self._limit_depth(tree.Run(flow, span))

    def shape(self, span: Span, dims: list[tree.Expr] | None) -> tree.ShapeNote:
        return tree.ShapeNote(tuple(dims or ()), span)

    def kind(self, span: Span, name: Token) -> tree.ShapeNote:
        if name.text != "list":
            help = "write a shape such as `[B, C, H, W]`, or `list`"
            self.report(Diagnostic("unknown-note", f"`{name.text}` is not a valid annotation", help, span=span))
        return tree.ShapeNote(None, span)

    # --- expressions ---

    def conditional(self, span: Span, test: tree.Expr, then: tree.Expr, other: tree.Expr) -> tree.If:
        return tree.If(test, then, other, span)

    def flow(self, span: Span, source: tree.Expr, steps: list[tree.Step]) -> tree.Flow:
        return tree.Flow(source, tuple(steps), span)

    def step(
        self, span: Span, each: Token | None, component: tree.Expr, repeat: tree.Expr | None, *naming: Any
    ) -> tree.Step:
        name, note = naming
        return tree.Step(component, each is not None, repeat, self._make_optional_ident(name), note, span)

    def binary(self, span: Span, left: tree.Expr, mark: Token, right: tree.Expr) -> tree.Binary:
        return tree.Binary(mark[1], left, right, _new_tuple(Span, (self.file_name, mark[2], mark[3])), span)

    def unary(self, span: Span, mark: Token, operand: tree.Expr) -> tree.Unary:
        return tree.Unary(mark.text, operand, span)  # type: ignore[arg-type]  # the grammar lets no other mark through

    def range(self, span: Span, low: tree.Expr, high: tree.Expr) -> tree.RangeExpr:
        return tree.RangeExpr(low, high, span)

    def attribute(self, span: Span, value: tree.Expr, name: Token) -> tree.Attribute:
        return tree.Attribute(value, self._make_ident(name), span)

    def index(self, span: Span, value: tree.Expr, index: tree.Expr) -> tree.Index:
        return tree.Index(value, index, span)

    def call(self, span: Span, func: tree.Expr, args: list[tree.Argument] | None) -> tree.Call:
        if not _is_path(func):
            help = "apply a module with an arrow: `x -> modules[0]`"
            self.report(Diagnostic("call-of-value", "only a name can be called", help, span=func.span))
        if args is None:
            return tree.Call(func, (), span)
        first_named = next((n for n, a in enumerate(args) if a.name is not None), len(args))
        for arg in args[first_named:]:
            if arg.name is None:
                self._report_positional_after_named(arg, args[first_named])
        return tree.Call(func, tuple(args), span)

    def _report_positional_after_named(self, arg: tree.Argument, first: tree.Argument) -> None:
        message = "positional argument follows a named argument"
        help = "name it, or move it before the named arguments"
        labels = (Label(first.span, "first named argument"),)
        self.report(Diagnostic("positional-after-named", message, help, span=arg.span, labels=labels))

    def positional(self, span: Span, value: tree.Expr) -> tree.Argument:
        return tree.Argument(None, value, span)

    def named(self, span: Span, name: Token, value: tree.Expr) -> tree.Argument:
        return tree.Argument(self._make_ident(name), value, span)

    def name(self, span: Span, token: Token) -> tree.Expr:
        text = token[1]
        if text in PYTHON_CONSTANTS:
            spelling = text.lower()
            message = f"`{text}` is spelled `{spelling}` in this language"
            self.report(Diagnostic("python-word", message, f"write `{spelling}`", span=span, fix=Fix(span, spelling)))
            return tree.Constant(PYTHON_CONSTANTS[text], span)
        return tree.Name(text, span)

    def number(self, span: Span, token: Token) -> tree.Constant:
        return tree.Constant(self._parse_number(token), span)

    def quantity(self, span: Span, number: Token, unit: Token) -> tree.QuantityLiteral:
        return tree.QuantityLiteral(self._parse_number(number), self._make_ident(unit), span)

    def size(self, span: Span, token: Token) -> tree.SizeLiteral:
        height, _, width = token.text.partition("x")
        return tree.SizeLiteral(self._parse_integer(height, span), self._parse_integer(width, span), span)

    def string(self, span: Span, token: Token) -> tree.Constant:
        return tree.Constant(unescape_string(token.text), span)

    def constant(self, span: Span, word: Token) -> tree.Constant:
        return tree.Constant(CONSTANTS[word.kind], span)

    def list(self, span: Span, items: list[tree.Expr] | None) -> tree.ListExpr:
        return tree.ListExpr(tuple(items or ()), span)

    def comprehension(
        self, span: Span, element: tree.Expr, targets: list[Token], source: tree.Expr, *carrying: Any
    ) -> tree.Comprehension:
        carry, start = carrying
        return tree.Comprehension(
            element, tuple(map(self._make_ident, targets)), source, self._make_optional_ident(carry), start, span
        )

    def _parse_number(self, token: Token) -> int | float:
        span = Span(self.file_name, token.start, token.end)
        if token.kind == "INT":
            return self._parse_integer(token.text, span)
        if token.text.endswith("%"):
            return float(token.text[:-1]) / 100
        value = float(token.text)
        if value == float("inf"):
            help = "use a number up to 1.7e308"
            self.report(Diagnostic("number-too-large", "number is too large", help, span=span))
            return 0.0
        return value

    def _parse_integer(self, digits: str, span: Span) -> int:
        # Converting very long digit strings takes quadratic time, and Python refuses more than 4300 digits.
        value = int(digits) if len(digits) <= 32 else MAX_INTEGER + 1
        if value > MAX_INTEGER:
            message = f"integer `{digits if len(digits) <= 32 else digits[:32] + '…'}` is too large"
            self.report(Diagnostic("number-too-large", message, "use an integer up to 2^53", span=span))
            return 0
        return value


def _exceeds_depth(node: tree.Tree, limit: int) -> bool:
    """Return whether a tree has a path of more than ``limit`` constructs from its root to a leaf."""
    # Level by level: a recursive check would overflow the stack on the very trees that it has to reject.
    level: list[Any] = [node]
    for _ in range(limit):
        parts = [part for item in level for part in item.__dict__.values()]
        level = [p for p in parts if isinstance(p, tree.Tree)]
        level += [p for part in parts if type(part) is tuple for p in part if isinstance(p, tree.Tree)]
        if not level:
            return False
    return True


def _is_path(func: tree.Expr) -> bool:
    while isinstance(func, tree.Attribute):
        func = func.value
    return isinstance(func, tree.Name)


def read_doc_above(token: Token) -> str:
    """Return the text of the `##` lines directly above ``token``, or "" if an empty line separates them."""
    runs, attached = _collect_doc_runs(token)
    return runs[-1] if attached else ""


def read_doc_below(token: Token) -> str:
    """Return the text of the first `##` lines before ``token``, the documentation of the file."""
    runs, attached = _collect_doc_runs(token)
    # `##` lines directly above the first block document the block.
    own = attached and len(runs) == 1 and token.kind in ("BLOCK", "MODEL")
    return runs[0] if runs and not own else ""


def _collect_doc_runs(token: Token) -> tuple[list[str], bool]:
    """Return the groups of `##` lines before ``token``, and whether the last group is directly above it."""
    lines = token.trivia.split("\n")
    # The first piece of trivia is the rest of the previous token's line, unless the token is the first of the file.
    if token.start != len(token.trivia):
        lines[0] = ""
    runs: list[str] = []
    current: list[str] = []
    # The last piece is in front of the token, on its line; the end of the file has no line of its own.
    for line in lines if token.kind == "$END" else lines[:-1]:
        line = line.strip(" \t\r\ufeff")
        if line.startswith("##"):
            current.append(line[2:].strip())
        elif current:
            runs.append("\n".join(current))
            current = []
    if current:
        runs.append("\n".join(current))
    return runs, bool(current)
