"""What an evaluation carries along: the graph being built, the names in sight, and the budgets that make it end."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from segdsl.diagnostics import Diagnostic, Label, Sink, Span
from segdsl.ir.graph import Node, Op
from segdsl.ir.shape import Dim, Shape, at, shape_at
from segdsl.lang.elaborate.files import FileScope
from segdsl.lang.elaborate.values import POISON, BlockDef, Stop, Tensor, join, stop
from segdsl.ops.names import another, is_taken
from segdsl.syntax import tree

NODE_BUDGET = 100_000
NESTING_BUDGET = 60
LIST_BUDGET = 100_000
LISTED_BUDGET = 3_000_000
INTEGER_BOUND = 2**53
EXTENT_BOUND = 500
UNNAMED = "?"
"""Stands in a path for a step that no binding names."""


@dataclass(eq=False)
class Context:
    """One elaboration: diagnostics, the nodes so far, and how a program path (`data.classes`) is resolved.

    ``env`` holds the values of `B`, `H`, `W` at the program's input size. ``state`` maps the path of everything with
    parameters to the op and operand shapes that built it; ``names`` maps bindings to nodes; ``size_span`` is where
    `data.input_size` is said, and ``size_failed`` that it could not be read; ``outs`` holds where the model's outputs
    come from; ``reported`` every error, by the place where it was found and the place where it is shown.
    """

    sink: Sink
    env: dict[str, int]
    resolve: Callable[[tuple[str, ...], Span], Any]
    is_path: Callable[[str], bool]
    nodes: list[Node] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    state: dict[str, tuple[Op, list[tuple[int, ...]], Span]] = field(default_factory=dict)
    uses: list[tuple[BlockDef, Span]] = field(default_factory=list)
    size_span: Span | None = None
    applications: int = 0
    recordings: dict[Any, Any] = field(default_factory=dict)
    listed: int = 0
    spent: bool = False
    sizes: dict[int, tuple[tuple[Any, ...], int]] = field(default_factory=dict)
    size_failed: bool = False
    outs: dict[str, Span] = field(default_factory=dict)
    reported: set[tuple[Span, Span]] = field(default_factory=set)

    def spend(self, span: Span) -> None:
        """Counts one application against the node budget."""
        self.applications += 1
        if self.spent:
            raise Stop
        if self.applications > NODE_BUDGET:
            self.spent = True
            raise stop(
                "node-budget",
                span,
                f"the graph grows beyond {NODE_BUDGET:,} applications",
                "a repeat or a range is too large here; use a smaller number",
            )

    def held(self, values: tuple[Any, ...], span: Span) -> tuple[Any, ...]:
        """A new list, counted against the list budget with the lists in it, and all lists against theirs."""
        self.listed += len(values)
        if self.spent:
            raise Stop
        if self._size(values) > LIST_BUDGET:
            message = f"this list grows beyond {LIST_BUDGET:,} elements"
            raise stop("list-budget", span, message, "use a smaller range, or fewer lists in lists")
        if self.listed > LISTED_BUDGET:
            self.spent = True
            message = f"the program makes lists of more than {LISTED_BUDGET:,} elements together"
            raise stop("list-budget", span, message, "use smaller ranges")
        return values

    def _size(self, values: tuple[Any, ...]) -> int:
        """The elements of a list and of the lists in it, each list worked out once and kept, so that its id stays."""
        known = self.sizes.get(id(values))
        if known is None:
            inner = sum(self._size(value) for value in values if isinstance(value, tuple))
            known = self.sizes[id(values)] = (values, len(values) + inner)
        return known[1]

    def emit(
        self, op: Op, operands: list[Tensor], shape: Shape, at_path: str | None, frame: Frame, span: Span
    ) -> Tensor:
        """Appends a node and gives its tensor. An op with state needs a path of its own (LANGUAGE.md §4)."""
        module = None
        for extent in shape:
            bounded(extent, span)
        shapes = [o.shape for o in operands]
        if op.state(shapes):
            module = self._own(op, shapes, at_path, frame, span)
        path = self._free(module if module is not None else (frame.path if at_path is None else at_path), op)
        operand_paths = tuple(o.path for o in operands)
        values = {"path": path, "op": op, "operands": operand_paths, "shape": shape, "module": module, "span": span}
        self.nodes.append(Node.trusted(values))
        return Tensor(path, shape, span)

    def _own(self, op: Op, shapes: list[Shape], path: str | None, frame: Frame, span: Span) -> str:
        if not path or UNNAMED in path:
            raise stop(
                "unnamed-parameters",
                span,
                f"`{type(op).__name__}` has parameters here, and no name to file them under",
                "name the step (`as name`), or bind the flow: `name = …`",
            )
        concrete = [shape_at(s, self.env) for s in shapes]
        known = self.state.get(path)
        if known is None:
            check_name(path, span)
            self.state[path] = (op, concrete, span)
            return path
        if not frame.reuse:
            raise stop(
                "duplicate-path",
                span,
                f"two things with parameters would both be called `{path}`",
                "name one of them: bind it (`name = …`) or add `as name`",
                labels=[Label(known[2], "the other one")],
            )
        mine, theirs = op.state(shapes), known[0].state(known[1])
        if {k: shape_at(s.shape, self.env) for k, s in mine.items()} != {k: s.shape for k, s in theirs.items()}:
            raise stop(
                "shared-module-mismatch",
                span,
                f"the shared `{path}` was built for {list(known[1][0][1:])}, and gets {list(concrete[0][1:])} here",
                "build a second module, or write the component behind the arrow: each `-> A(…)` is a fresh copy",
                labels=[Label(known[2], "its weights are shaped here")],
            )
        return path

    def _free(self, wish: str, op: Op) -> str:
        path = re.sub(r"\?\w*\.?", "", wish).strip(".") or type(op).__name__.lower()
        if path in self.taken:
            stem, count = f"{path}:{type(op).__name__.lower()}", 2
            path = stem
            while path in self.taken:
                path, count = f"{stem}{count}", count + 1
        self.taken.add(path)
        return path

    def value(self, extent: Any) -> int:
        """An extent at the program's input size."""
        return at(extent, self.env)

    def report(self, diagnostic: Diagnostic) -> None:
        """Adds an error, at the place in the author's own files that led to it; where there is an error already, or
        around it, it is left out."""
        found = diagnostic.span
        if found is None:
            self.sink.add(diagnostic)
            return
        placed = self._placed(diagnostic, found)
        assert placed.span is not None
        # Several faults inside the library may stand at one use of it.
        known = [d.span for d in self.sink.errors if found == placed.span or d.span != placed.span]
        if (found, placed.span) in self.reported or any(_within(placed.span, span) for span in known):
            return
        if diagnostic.severity == "error":
            self.reported.add((found, placed.span))
        self.sink.add(placed)

    def _placed(self, diagnostic: Diagnostic, found: Span) -> Diagnostic:
        """The error with what led to it. One inside the library stands where the author's files use the library."""
        led = [(block, used) for block, used in self.uses if not in_library(used)]
        labels = list(diagnostic.labels)
        if in_library(found) and led:
            label = f"in `{self.uses[-1][0].name}`" + (f": {diagnostic.label}" if diagnostic.label else "")
            labels.insert(0, Label(found, label))
            diagnostic = replace(diagnostic, span=led.pop()[1], label="", fix=None)
        return replace(diagnostic, labels=(*labels, *_uses(diagnostic.span or found, led)))


def _uses(place: Span, led: list[tuple[BlockDef, Span]]) -> Iterator[Label]:
    """The uses of blocks that led to a place: the nearest, and from there on the nearest in each further file.

    That the model is built is not worth saying of a place in the model itself.
    """
    file = None
    for number, (block, used) in reversed(list(enumerate(led))):
        if file is None and number == 0 and _within(place, block.tree.span):
            return
        if used.file != file:
            yield Label(used, f"while `{block.name}` is built here")
            file = used.file


def in_library(span: Span) -> bool:
    """Whether a place lies in a file that ships with segdsl."""
    return span.file.startswith("std/")


def _within(span: Span, other: Span | None) -> bool:
    """Whether a place lies inside another."""
    return other is not None and span.file == other.file and other.start <= span.start and span.end <= other.end


def check_name(path: str, span: Span) -> None:
    """Refuses a path of which a part means something else in a built module."""
    taken = next(filter(is_taken, path.split(".")), None)
    if taken:
        message = f"`{taken}` in the path `{path}` already means something in a built module"
        raise stop("name-taken", span, message, f"give it another name, for example `{another(taken)}`")


def bounded(value: Any, span: Span) -> Any:
    """A number or an extent that is not absurdly large."""
    if isinstance(value, Dim):
        if len(str(value)) > EXTENT_BOUND:
            raise stop("integer-bound", span, "this extent has become too long to be written down", "simplify it")
    elif isinstance(value, int):
        if abs(value) > INTEGER_BOUND:
            raise stop("integer-bound", span, "the integer is beyond 2^53", "use a smaller number")
    elif isinstance(value, float) and not math.isfinite(value):
        raise stop("integer-bound", span, "the number is beyond what a float can hold", "use a smaller number")
    return value


@dataclass(eq=False, slots=True)
class Frame:
    """The names in sight at one place: of a comprehension, inside a block, inside a file.

    ``path`` is that of the block's instance; ``reuse`` says that the instance is applied again, with its old weights;
    ``written`` where the arguments of the block were written down.
    """

    context: Context
    file: FileScope
    path: str = ""
    vars: dict[str, Any] = field(default_factory=dict)
    parent: Frame | None = None
    reuse: bool = False
    block: BlockDef | None = None
    written: Mapping[str, Span] = field(default_factory=dict)

    def child(self) -> Frame:
        """A frame for the names of a comprehension."""
        return Frame(self.context, self.file, self.path, {}, self, self.reuse, self.block)

    def find(self, name: str) -> Any:
        """The value of a local name; raises KeyError when there is none."""
        frame: Frame | None = self
        while frame is not None:
            if name in frame.vars:
                value = frame.vars[name]
                if value is POISON:
                    raise Stop
                return value
            frame = frame.parent
        raise KeyError(name)

    def origin(self, expr: tree.Expr) -> Span:
        """Where a value was written down: for a parameter, where the argument for it was."""
        frame: Frame | None = self
        while frame is not None and isinstance(expr, tree.Name):
            if expr.name in frame.written:
                return frame.written[expr.name]
            frame = frame.parent
        return expr.span

    def local_names(self) -> list[str]:
        """All local names, for suggestions."""
        return [*self.vars, *(self.parent.local_names() if self.parent else ())]

    def text(self, span: Span) -> str:
        """What is written at a place; "" where its source is not at hand."""
        return self.context.sink.sources.get(span.file, "")[span.start : span.end]

    def under(self, name: str) -> str:
        """The path of a binding of this block."""
        return join(self.path, name)


Handler = Callable[[Any, Frame, "str | None"], Any]
HANDLERS: dict[type, Handler] = {}
H = TypeVar("H", bound=Handler)


def handles(*kinds: type) -> Callable[[H], H]:
    """Registers the evaluation of kinds of expressions."""

    def register(handler: H) -> H:
        for kind in kinds:
            HANDLERS[kind] = handler
        return handler

    return register


def evaluate(expr: tree.Expr, frame: Frame, path: str | None) -> Any:
    """The value of an expression. ``path`` is where modules and nodes made by it are built; None for nowhere.

    Raises :class:`Stop` when it has none.
    """
    return HANDLERS[type(expr)](expr, frame, path)
