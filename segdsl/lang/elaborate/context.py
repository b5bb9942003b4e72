"""The state of an elaboration: the graph under construction, the names in scope, and the budgets that bound it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from segdsl.diagnostics import Diagnostic, Label, Sink, Span
from segdsl.ir.graph import Node, Op
from segdsl.ir.shape import Dim, Shape, evaluate_extent, evaluate_shape
from segdsl.lang.elaborate.scopes import BlockDef, FileScope
from segdsl.lang.elaborate.values import POISON, EvalStop, Tensor, count_modules, eval_error, join_path
from segdsl.ops.names import is_name_taken, suggest_free_name
from segdsl.syntax import tree

# The language has loops over lists and nested blocks, so a short program can ask for an endless amount of work. Each
# budget is far above what real models need and low enough to be reached within seconds.
NODE_BUDGET = 100_000
WORK_BUDGET = 1_000_000
"""Units of work of one elaboration, each about a microsecond: an expression is one, other things are a multiple."""
BLOCK_WORK, MODULE_WORK, ARGUMENT_WORK, COPY_WORK, EXTENT_WORK = 20, 4, 8, 2, 20
"""Units for applying a block, making a module and each of its arguments, copying one, and a symbolic extent."""
CHARS_PER_WORK = 10
"""Characters of text that one unit makes, which bounds the memory of all texts together."""
NESTING_BUDGET = 60
LIST_BUDGET = 100_000
TOTAL_LIST_BUDGET = 3_000_000
# Beyond 2^53, integers lose precision when they pass through a float or through JSON.
MAX_INTEGER = 2**53
MAX_EXTENT_LENGTH = 500
ANONYMOUS = "?"
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
    used_paths: set[str] = field(default_factory=set)
    state: dict[str, tuple[Op, list[tuple[int, ...]], Span]] = field(default_factory=dict)
    block_stack: list[tuple[BlockDef, Span]] = field(default_factory=list)
    size_span: Span | None = None
    applications: int = 0
    work: int = 0
    recordings: dict[Any, Any] = field(default_factory=dict)
    list_element_count: int = 0
    is_budget_exhausted: bool = False
    list_sizes: dict[int, tuple[tuple[Any, ...], int]] = field(default_factory=dict)
    has_invalid_size: bool = False
    output_spans: dict[str, Span] = field(default_factory=dict)
    error_places: set[tuple[Span, Span]] = field(default_factory=set)

    def charge_application(self, span: Span) -> None:
        """Count one application against the node budget."""
        self.applications += 1
        # The error is reported once. Whatever is still running after it stops without a message.
        if self.is_budget_exhausted:
            raise EvalStop
        if self.applications > NODE_BUDGET:
            self.is_budget_exhausted = True
            raise eval_error(
                "node-budget",
                span,
                f"the graph exceeds {NODE_BUDGET:,} applications",
                "reduce the repeat count or the range that leads here",
            )

    def charge_work(self, units: int, span: Span) -> None:
        """Count units of work against the budget."""
        self.work += units
        if self.work > WORK_BUDGET:
            if self.is_budget_exhausted:
                raise EvalStop
            self.is_budget_exhausted = True
            raise eval_error(
                "work-budget",
                span,
                "this program takes too long to evaluate",
                "use smaller ranges and fewer nested comprehensions; compute a list once in a `let`",
            )

    def charge_block(self, span: Span) -> None:
        """Count the application of a block against the budget of work."""
        self.charge_work(BLOCK_WORK, span)

    def charge_copies(self, value: Any, span: Span, count: int = 1) -> None:
        """Count ``count`` copies of the modules in a value against the budget of work."""
        self.charge_work(count * count_modules(value) * COPY_WORK, span)

    def charge_list(self, values: tuple[Any, ...], span: Span) -> tuple[Any, ...]:
        """Return a new list after counting it, with the lists in it, against both list budgets."""
        self.list_element_count += len(values)
        if self.is_budget_exhausted:
            raise EvalStop
        if self.count_elements(values) > LIST_BUDGET:
            message = f"this list exceeds {LIST_BUDGET:,} elements"
            raise eval_error("list-budget", span, message, "use a smaller range, or fewer nested lists")
        if self.list_element_count > TOTAL_LIST_BUDGET:
            self.is_budget_exhausted = True
            message = f"the lists of this program exceed {TOTAL_LIST_BUDGET:,} elements in total"
            raise eval_error("list-budget", span, message, "use smaller ranges")
        return values

    def count_elements(self, values: tuple[Any, ...]) -> int:
        """Return the number of elements of a list and of the lists in it."""
        # Nested lists are often shared (`[xs, xs]`), so their sizes are cached by id; otherwise thirty doublings would
        # take 2^30 steps. Keeping the list itself in the cache keeps its id from being reused.
        known = self.list_sizes.get(id(values))
        if known is None:
            inner = sum(self.count_elements(value) for value in values if isinstance(value, tuple))
            known = self.list_sizes[id(values)] = (values, len(values) + inner)
        return known[1]

    def claim_state_path(self, op: Op, shapes: list[Shape], path: str | None, frame: Frame, span: Span) -> str:
        """Record the state of an op under its path. An op with state needs a path of its own (LANGUAGE.md §4)."""
        if not path or ANONYMOUS in path:
            raise eval_error(
                "unnamed-parameters",
                span,
                f"`{type(op).__name__}` has parameters but no name to store them under",
                "name the step with `as name`, or bind the flow with `name = …`",
            )
        concrete = [evaluate_shape(s, self.env) for s in shapes]
        known = self.state.get(path)
        if known is None:
            check_reserved_names(path, span)
            self.state[path] = (op, concrete, span)
            return path
        if not frame.reuse:
            raise eval_error(
                "duplicate-path",
                span,
                f"two parts with parameters would both be named `{path}`",
                "name one of them with `name = …` or `as name`",
                labels=[Label(known[2], "the other part")],
            )
        # The input may differ in height and width, as long as the weights come out the same.
        mine, theirs = op.declare_state(shapes), known[0].declare_state(known[1])
        if {k: evaluate_shape(s.shape, self.env) for k, s in mine.items()} != {k: s.shape for k, s in theirs.items()}:
            raise eval_error(
                "shared-module-mismatch",
                span,
                f"shared module `{path}` was built for {list(known[1][0][1:])}, but gets {list(concrete[0][1:])} here",
                "build a second module, or write the component after the arrow: each `-> A(…)` is a fresh copy",
                labels=[Label(known[2], "its weights are shaped here")],
            )
        return path

    def pick_free_path(self, base_path: str, op: Op) -> str:
        """Return an unused node path at or below a path, and take it."""
        # Nodes need unique paths too, but without state nobody refers to them: any free name will do.
        path = re.sub(r"\?\w*\.?", "", base_path).strip(".") or type(op).__name__.lower()
        if path in self.used_paths:
            stem, count = f"{path}:{type(op).__name__.lower()}", 2
            path = stem
            while path in self.used_paths:
                path, count = f"{stem}{count}", count + 1
        self.used_paths.add(path)
        return path

    def resolve_extent(self, extent: Any) -> int:
        """Return the value of an extent at the program's input size."""
        return evaluate_extent(extent, self.env)

    def report(self, diagnostic: Diagnostic) -> None:
        """Add a diagnostic at the place in the author's own files that led to it.

        Drops it if an error is already reported at that place or at one around it.
        """
        found = diagnostic.span
        if found is None:
            self.sink.add(diagnostic)
            return
        placed = self._relocate_diagnostic(diagnostic, found)
        assert placed.span is not None
        # Different faults inside the library may all be shown at one use of it, and each is worth reporting.
        known = [d.span for d in self.sink.errors if found == placed.span or d.span != placed.span]
        if (found, placed.span) in self.error_places or any(_is_within(placed.span, span) for span in known):
            return
        if diagnostic.severity == "error":
            self.error_places.add((found, placed.span))
        self.sink.add(placed)

    def _relocate_diagnostic(self, diagnostic: Diagnostic, origin: Span) -> Diagnostic:
        # Authors cannot correct the library: an error inside it moves to where their own files use it.
        outer_uses = [(block, used) for block, used in self.block_stack if not is_in_library(used)]
        labels = list(diagnostic.labels)
        if is_in_library(origin) and outer_uses:
            label = f"in `{self.block_stack[-1][0].name}`" + (f": {diagnostic.label}" if diagnostic.label else "")
            labels.insert(0, Label(origin, label))
            diagnostic = replace(diagnostic, span=outer_uses.pop()[1], label="", fix=None)
        return replace(diagnostic, labels=(*labels, *_label_block_uses(diagnostic.span or origin, outer_uses)))


def _label_block_uses(place: Span, uses: list[tuple[BlockDef, Span]]) -> Iterator[Label]:
    """Yield a label for the block uses that led to a place: the nearest one, then the nearest in each other file.

    A place in the model itself gets no label for the model: every program builds its model.
    """
    file = None
    for number, (block, used) in reversed(list(enumerate(uses))):
        if file is None and number == 0 and _is_within(place, block.tree.span):
            return
        if used.file != file:
            yield Label(used, f"while building `{block.name}` here")
            file = used.file


def is_in_library(span: Span) -> bool:
    """Return whether a place is in a file that ships with segdsl."""
    return span.file.startswith("std/")


def _is_within(span: Span, other: Span | None) -> bool:
    return other is not None and span.file == other.file and other.start <= span.start and span.end <= other.end


def check_reserved_names(path: str, span: Span) -> None:
    """Refuse a path with a part that cannot be the name of a PyTorch module."""
    taken = next(filter(is_name_taken, path.split(".")), None)
    if taken:
        message = f"`{taken}` in the path `{path}` is a name reserved by PyTorch or Python"
        raise eval_error("name-taken", span, message, f"use another name, for example `{suggest_free_name(taken)}`")


def check_magnitude(value: Any, span: Span) -> Any:
    """Return a number or extent unchanged. Raises :class:`EvalStop` if its magnitude is out of bounds."""
    if isinstance(value, Dim):
        if len(str(value)) > MAX_EXTENT_LENGTH:
            message = f"this symbolic extent exceeds {MAX_EXTENT_LENGTH} characters"
            raise eval_error("integer-bound", span, message, "simplify the expression")
    elif isinstance(value, int):
        if abs(value) > MAX_INTEGER:
            raise eval_error("integer-bound", span, "this integer exceeds 2^53", "use a smaller number")
    elif isinstance(value, float) and not math.isfinite(value):
        raise eval_error("integer-bound", span, "this number exceeds the range of a float", "use a smaller number")
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
    argument_spans: Mapping[str, Span] = field(default_factory=dict)

    def make_child(self) -> Frame:
        """Return a frame for the names of a comprehension."""
        return Frame(self.context, self.file, self.path, {}, self, self.reuse, self.block)

    def look_up(self, name: str) -> Any:
        """Return the value of a local name. Raises KeyError if it is not bound, EvalStop if its value failed."""
        frame: Frame | None = self
        while frame is not None:
            if name in frame.vars:
                value = frame.vars[name]
                if value is POISON:
                    raise EvalStop
                return value
            frame = frame.parent
        raise KeyError(name)

    def find_origin(self, expr: tree.Expr) -> Span:
        """Return the place where a value was written: for a parameter, the place of its argument."""
        frame: Frame | None = self
        while frame is not None and isinstance(expr, tree.Name):
            if expr.name in frame.argument_spans:
                return frame.argument_spans[expr.name]
            frame = frame.parent
        return expr.span

    def list_local_names(self) -> list[str]:
        """Return all local names, innermost first."""
        return [*self.vars, *(self.parent.list_local_names() if self.parent else ())]

    def is_bound(self, name: str) -> bool:
        """Return whether a name is bound in the block or by a `let` of the file."""
        return name in self.list_local_names() or name in self.file.lets

    def find_let(self, name: str) -> tree.Let | None:
        """Return the `let` of this name in the block or in the file, or None."""
        body = self.block.tree.body if self.block else ()
        own = (s for s in body if isinstance(s, tree.Let) and s.name.name == name)
        return next(own, self.file.lets.get(name))

    def get_source(self, span: Span) -> str:
        """Return the source text at a place, or "" if the source is not available."""
        return self.context.sink.sources.get(span.file, "")[span.start : span.end]

    def qualify_name(self, name: str) -> str:
        """Return the full path of a binding of this block."""
        return join_path(self.path, name)


def emit_node(op: Op, operands: list[Tensor], shape: Shape, at_path: str | None, frame: Frame, span: Span) -> Tensor:
    """Append a node and return its tensor. An op with state is stored under ``at_path``."""
    module, context = None, frame.context
    for extent in shape:
        check_magnitude(extent, span)
    shapes = [o.shape for o in operands]
    if op.declare_state(shapes):
        module = context.claim_state_path(op, shapes, at_path, frame, span)
    base_path = module if module is not None else (frame.path if at_path is None else at_path)
    path = context.pick_free_path(base_path, op)
    operand_paths = tuple(o.path for o in operands)
    values = {"path": path, "op": op, "operands": operand_paths, "shape": shape, "module": module, "span": span}
    context.nodes.append(Node.build_unchecked(values))
    return Tensor(path, shape, span)


Handler = Callable[[Any, Frame, "str | None"], Any]
HANDLERS: dict[type, Handler] = {}
H = TypeVar("H", bound=Handler)


def register_evaluator(*kinds: type) -> Callable[[H], H]:
    """Register a function as the evaluator of these expression types."""

    def add_handler(handler: H) -> H:
        for kind in kinds:
            HANDLERS[kind] = handler
        return handler

    return add_handler


def evaluate_expr(expr: tree.Expr, frame: Frame, path: str | None) -> Any:
    """Return the value of an expression. Raises :class:`EvalStop` if it has none.

    ``path`` names the modules and nodes that the expression builds; None leaves them without a name.
    """
    context = frame.context
    context.work += 1
    if context.work > WORK_BUDGET:
        context.charge_work(0, expr.span)
    return HANDLERS[type(expr)](expr, frame, path)
