"""The state of an elaboration: the graph under construction, the names in scope, and the budgets that bound it."""

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

# The language has loops over lists and nested blocks, so a short program can ask for an endless amount of work. Each
# budget is far above what real models need and low enough to be reached within seconds.
NODE_BUDGET = 100_000
NESTING_BUDGET = 60
LIST_BUDGET = 100_000
LISTED_BUDGET = 3_000_000
# Beyond 2^53, integers lose precision when they pass through a float or through JSON.
INTEGER_BOUND = 2**53
EXTENT_BOUND = 500
UNNAMED = "?"
"""Placeholder in a path for a step without a name."""


@dataclass(eq=False)
class Context:
    """The state of one elaboration.

    ``env`` holds the values of `B`, `H`, `W` at the program's input size, and ``resolve`` returns the value of a
    program path such as `data.classes`. ``state`` maps the path of everything with parameters to the op and operand
    shapes that built it; ``names`` maps bindings to nodes. ``size_span`` is the place of `data.input_size`, and
    ``has_invalid_size`` is set if its value could not be read. ``output_spans`` holds the origin of each model output.
    ``error_places`` holds every error as a pair: the place where it was found, and the place where it is shown.
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
        """Count one application against the node budget."""
        self.applications += 1
        # The error is reported once. Whatever is still running after it stops without a message.
        if self.spent:
            raise Stop
        if self.applications > NODE_BUDGET:
            self.spent = True
            raise stop(
                "node-budget",
                span,
                f"the graph exceeds {NODE_BUDGET:,} applications",
                "reduce the repeat count or the range that leads here",
            )

    def held(self, values: tuple[Any, ...], span: Span) -> tuple[Any, ...]:
        """Return a new list after counting it, with the lists in it, against both list budgets."""
        self.listed += len(values)
        if self.spent:
            raise Stop
        if self._size(values) > LIST_BUDGET:
            message = f"this list exceeds {LIST_BUDGET:,} elements"
            raise stop("list-budget", span, message, "use a smaller range, or fewer nested lists")
        if self.listed > LISTED_BUDGET:
            self.spent = True
            message = f"the lists of this program exceed {LISTED_BUDGET:,} elements in total"
            raise stop("list-budget", span, message, "use smaller ranges")
        return values

    def _size(self, values: tuple[Any, ...]) -> int:
        # Nested lists are often shared (`[xs, xs]`), so their sizes are cached by id; otherwise thirty doublings would
        # take 2^30 steps. Keeping the list itself in the cache keeps its id from being reused.
        known = self.sizes.get(id(values))
        if known is None:
            inner = sum(self._size(value) for value in values if isinstance(value, tuple))
            known = self.sizes[id(values)] = (values, len(values) + inner)
        return known[1]

    def emit(
        self, op: Op, operands: list[Tensor], shape: Shape, at_path: str | None, frame: Frame, span: Span
    ) -> Tensor:
        """Append a node and return its tensor. An op with state needs a path of its own (LANGUAGE.md §4)."""
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
                f"`{type(op).__name__}` has parameters but no name to store them under",
                "name the step with `as name`, or bind the flow with `name = …`",
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
                f"two parts with parameters would both be named `{path}`",
                "name one of them with `name = …` or `as name`",
                labels=[Label(known[2], "the other part")],
            )
        # The input may differ in height and width, as long as the weights come out the same.
        mine, theirs = op.state(shapes), known[0].state(known[1])
        if {k: shape_at(s.shape, self.env) for k, s in mine.items()} != {k: s.shape for k, s in theirs.items()}:
            raise stop(
                "shared-module-mismatch",
                span,
                f"shared module `{path}` was built for {list(known[1][0][1:])}, but gets {list(concrete[0][1:])} here",
                "build a second module, or write the component after the arrow: each `-> A(…)` is a fresh copy",
                labels=[Label(known[2], "its weights are shaped here")],
            )
        return path

    def _free(self, wish: str, op: Op) -> str:
        # Nodes need unique paths too, but without state nobody refers to them: any free name will do.
        path = re.sub(r"\?\w*\.?", "", wish).strip(".") or type(op).__name__.lower()
        if path in self.taken:
            stem, count = f"{path}:{type(op).__name__.lower()}", 2
            path = stem
            while path in self.taken:
                path, count = f"{stem}{count}", count + 1
        self.taken.add(path)
        return path

    def value(self, extent: Any) -> int:
        """Return the value of an extent at the program's input size."""
        return at(extent, self.env)

    def report(self, diagnostic: Diagnostic) -> None:
        """Add a diagnostic at the place in the author's own files that led to it.

        Drops it if an error is already reported at that place or at one around it.
        """
        found = diagnostic.span
        if found is None:
            self.sink.add(diagnostic)
            return
        placed = self._placed(diagnostic, found)
        assert placed.span is not None
        # Different faults inside the library may all be shown at one use of it, and each is worth reporting.
        known = [d.span for d in self.sink.errors if found == placed.span or d.span != placed.span]
        if (found, placed.span) in self.reported or any(_within(placed.span, span) for span in known):
            return
        if diagnostic.severity == "error":
            self.reported.add((found, placed.span))
        self.sink.add(placed)

    def _placed(self, diagnostic: Diagnostic, found: Span) -> Diagnostic:
        # Authors cannot correct the library: an error inside it moves to where their own files use it.
        outer_uses = [(block, used) for block, used in self.uses if not in_library(used)]
        labels = list(diagnostic.labels)
        if in_library(found) and outer_uses:
            label = f"in `{self.uses[-1][0].name}`" + (f": {diagnostic.label}" if diagnostic.label else "")
            labels.insert(0, Label(found, label))
            diagnostic = replace(diagnostic, span=outer_uses.pop()[1], label="", fix=None)
        return replace(diagnostic, labels=(*labels, *_uses(diagnostic.span or found, outer_uses)))


def _uses(place: Span, led: list[tuple[BlockDef, Span]]) -> Iterator[Label]:
    """Yield a label for the block uses that led to a place: the nearest one, then the nearest in each other file.

    A place in the model itself gets no label for the model: every program builds its model.
    """
    file = None
    for number, (block, used) in reversed(list(enumerate(led))):
        if file is None and number == 0 and _within(place, block.tree.span):
            return
        if used.file != file:
            yield Label(used, f"while building `{block.name}` here")
            file = used.file


def in_library(span: Span) -> bool:
    """Return whether a place is in a file that ships with segdsl."""
    return span.file.startswith("std/")


def _within(span: Span, other: Span | None) -> bool:
    return other is not None and span.file == other.file and other.start <= span.start and span.end <= other.end


def check_name(path: str, span: Span) -> None:
    """Refuse a path with a part that cannot be the name of a PyTorch module."""
    taken = next(filter(is_taken, path.split(".")), None)
    if taken:
        message = f"`{taken}` in the path `{path}` is a name reserved by PyTorch or Python"
        raise stop("name-taken", span, message, f"use another name, for example `{another(taken)}`")


def bounded(value: Any, span: Span) -> Any:
    """Return a number or extent unchanged. Raises :class:`EvalStop` if its magnitude is out of bounds."""
    if isinstance(value, Dim):
        if len(str(value)) > EXTENT_BOUND:
            message = f"this symbolic extent exceeds {EXTENT_BOUND} characters"
            raise stop("integer-bound", span, message, "simplify the expression")
    elif isinstance(value, int):
        if abs(value) > INTEGER_BOUND:
            raise stop("integer-bound", span, "this integer exceeds 2^53", "use a smaller number")
    elif isinstance(value, float) and not math.isfinite(value):
        raise stop("integer-bound", span, "this number exceeds the range of a float", "use a smaller number")
    return value


@dataclass(eq=False, slots=True)
class Frame:
    """The names in scope at one place: those of a comprehension, of the block around it, and of the file.

    ``path`` is the path of the block's instance. ``reuse`` means that the instance was applied before, so that its
    weights are shared. ``argument_spans`` holds the places of the arguments that the block was built with.
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
        """Return a frame for the names of a comprehension."""
        return Frame(self.context, self.file, self.path, {}, self, self.reuse, self.block)

    def find(self, name: str) -> Any:
        """Return the value of a local name. Raises KeyError if it is not bound, EvalStop if its value failed."""
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
        """Return the place where a value was written: for a parameter, the place of its argument."""
        frame: Frame | None = self
        while frame is not None and isinstance(expr, tree.Name):
            if expr.name in frame.written:
                return frame.written[expr.name]
            frame = frame.parent
        return expr.span

    def local_names(self) -> list[str]:
        """Return all local names, innermost first."""
        return [*self.vars, *(self.parent.local_names() if self.parent else ())]

    def text(self, span: Span) -> str:
        """Return the source text at a place, or "" if the source is not available."""
        return self.context.sink.sources.get(span.file, "")[span.start : span.end]

    def under(self, name: str) -> str:
        """Return the full path of a binding of this block."""
        return join(self.path, name)


Handler = Callable[[Any, Frame, "str | None"], Any]
HANDLERS: dict[type, Handler] = {}
H = TypeVar("H", bound=Handler)


def handles(*kinds: type) -> Callable[[H], H]:
    """Register a function as the evaluator of these expression types."""

    def register(handler: H) -> H:
        for kind in kinds:
            HANDLERS[kind] = handler
        return handler

    return register


def evaluate(expr: tree.Expr, frame: Frame, path: str | None) -> Any:
    """Return the value of an expression. Raises :class:`EvalStop` if it has none.

    ``path`` names the modules and nodes that the expression builds; None leaves them without a name.
    """
    return HANDLERS[type(expr)](expr, frame, path)
