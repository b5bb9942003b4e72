"""The model graph: primitive ops with paths, symbolic shapes and source spans. Nothing here imports torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

from pydantic import Field

from segdsl.diagnostics import Span
from segdsl.ir.shape import Extent, Shape, evaluate_extent, evaluate_shape, match_grid
from segdsl.ir.word import Record, Word


class Operand(NamedTuple):
    """A tensor that an op takes as a named argument, as in `ResizeTo(x)`. A required one may be positional."""

    name: str
    doc: str
    optional: bool = False


class Initializer(Word, abstract=True):
    """The initialization of a parameter."""

    kind: ClassVar[str] = "initializer"


@dataclass(frozen=True, slots=True)
class State:
    """A tensor that an op owns: a trained parameter, a parameter that is never trained (``fixed``), or a buffer.

    ``shape`` may be symbolic.
    """

    shape: Shape
    kind: Literal["trained", "fixed", "buffer"] = "trained"


class Table(NamedTuple):
    """A parameter with one row per cell of a grid over the image, such as a position embedding.

    Along ``axis`` it has ``first`` other rows (a class token), then those of the ``height`` x ``width`` cells, row by
    row.
    """

    axis: int
    first: int
    height: Extent
    width: Extent

    def evaluate_grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the height and width of the grid, in cells, for an image of ``size`` (height, width)."""
        env = {"H": size[0], "W": size[1]}
        return evaluate_extent(self.height, env), evaluate_extent(self.width, env)


class ShapeError(Exception):
    """Operands that do not fit an op, raised by its shape rule.

    ``operand`` is the index of the operand at fault. A ``divisor`` > 0 means that the error disappears if height and
    width of the model's input are multiples of it.
    """

    def __init__(self, slug: str, message: str, help: str, *, operand: int = 0, divisor: int = 0) -> None:
        super().__init__(message)
        self.slug, self.message, self.help, self.operand, self.divisor = slug, message, help, operand, divisor


class Op(Word, abstract=True):
    """A primitive operation of the graph: fields, and rules for shape, state and cost.

    The tensor that flows in is operand 0 (for ``flows = "list"``, operands 0 … n-1); the tensors in ``takes`` follow in
    that order, optional ones only if present. The rules get the operands' shapes. ``env`` has the values of the model's
    symbols at the program's input size, for ops whose sizes must match exactly there.
    """

    kind: ClassVar[str] = "op"
    flows: ClassVar[Literal["tensor", "list", "nothing"]] = "tensor"
    takes: ClassVar[tuple[Operand, ...]] = ()
    returns: ClassVar[Literal["tensor", "list"]] = "tensor"
    target: ClassVar[str] = ""
    is_random: ClassVar[bool] = False
    """Whether two applications to one tensor can differ, because it draws random numbers in training."""
    normalizes_batch: ClassVar[bool] = False
    """Whether each channel is normalized over the batch in training, which takes more than one value."""
    needs_nonnegative_input: ClassVar[bool] = False
    """Whether operand 0 should not contain negative values."""

    def infer_shape(self, shapes: Sequence[Shape], env: Mapping[str, int]) -> Shape:
        """Return the shape of the result. Raises :class:`ShapeError` if the operands do not fit."""
        raise NotImplementedError

    def get_output_sign(self) -> Literal["any", "nonnegative", "input"]:
        """Return whether results can be negative: maybe (`any`), never, or only if operand 0 is (`input`)."""
        return "any"

    def declare_state(self, shapes: Sequence[Shape]) -> dict[str, State]:
        """Return the parameters and buffers of the op by leaf name (`weight`, `running_mean`)."""
        return {}

    def count_macs(self, shapes: Sequence[Shape], out: Shape) -> Extent:
        """Return the multiply-accumulates for one image (B = 1)."""
        # Only convolutions and matrix products count, as is usual in publications; all other ops are free.
        return 0


class Node(Record):
    """One application of an op.

    ``path`` is unique in the graph and made of the names of bindings. ``operands`` are paths of earlier nodes or
    inputs. ``module`` is the key prefix of the node's state, or None without state; nodes share it if a module is
    applied more than once.
    """

    path: str
    op: Op
    operands: tuple[str, ...]
    shape: Shape
    module: str | None = None
    span: Span | None = None


class Graph(Record):
    """A whole model: ``inputs`` and ``outputs`` by path, ``nodes`` in topological order.

    ``size`` is the (height, width) that the program is compiled for; ``names`` maps the path of every tensor binding
    (`backbone.stem`, `neck.ys.0`) to the path of the node that computes it.
    """

    name: str
    inputs: dict[str, Shape]
    nodes: tuple[Node, ...]
    outputs: dict[str, str]
    size: tuple[int, int]
    names: dict[str, str] = Field(default_factory=dict)

    @property
    def env(self) -> dict[str, int]:
        """The values of the model's symbols at its input size, for one image."""
        return {"B": 1, "H": self.size[0], "W": self.size[1]}

    def collect_shapes(self) -> dict[str, Shape]:
        """Return the shape of every input and node by path."""
        return {**self.inputs, **{node.path: node.shape for node in self.nodes}}

    def collect_state(self) -> dict[str, State]:
        """Return every parameter and buffer by its key, with concrete shapes."""
        shapes, env = self.collect_shapes(), self.env
        found: dict[str, State] = {}
        for node in self.nodes:
            if node.module is None:
                continue
            for leaf, state in node.op.declare_state([shapes[o] for o in node.operands]).items():
                # A `Parameter` has the leaf name "": its key is the path of the module itself.
                key = ".".join(part for part in (node.module, leaf) if part)
                found.setdefault(key, State(evaluate_shape(state.shape, env), state.kind))
        return found

    def collect_tables(self) -> dict[str, Table]:
        """Return the parameters with one row per cell of a grid over the image, by key."""
        # They are recognized by an extent of the form `n + h*w`; only nodes without operands are parameters.
        found: dict[str, Table] = {}
        for node in self.nodes:
            for axis, extent in enumerate(() if node.operands else node.shape):
                grid = match_grid(extent)
                if grid is not None:
                    found[node.module or node.path] = Table(axis, *grid)
        return found

    def count_macs(self) -> int:
        """Return the multiply-accumulates for one image of ``size``."""
        shapes, env = self.collect_shapes(), self.env
        return sum(evaluate_extent(n.op.count_macs([shapes[o] for o in n.operands], n.shape), env) for n in self.nodes)

    def count_parameters(self, kinds: tuple[str, ...] = ("trained", "fixed")) -> int:
        """Return the number of scalars in the state of the given kinds."""
        return sum(math.prod(evaluate_shape(s.shape, {})) for s in self.collect_state().values() if s.kind in kinds)
