"""The model as data: a graph of primitive ops with paths, symbolic shapes and spans. Nothing here imports torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

from pydantic import Field

from segdsl.diagnostics import Span
from segdsl.ir.shape import Extent, Shape, as_grid, at, shape_at
from segdsl.ir.word import Record, Word


class Operand(NamedTuple):
    """A tensor that an op takes as a named argument (`ResizeTo(x)`): required ones may be positional."""

    name: str
    doc: str
    optional: bool = False


class Initializer(Word, abstract=True):
    """How a parameter starts."""

    kind: ClassVar[str] = "initializer"


@dataclass(frozen=True, slots=True)
class State:
    """A tensor that an op owns: trained, a parameter that is never trained (``fixed``), or a buffer.

    ``shape`` may be symbolic.
    """

    shape: Shape
    kind: Literal["trained", "fixed", "buffer"] = "trained"


class Table(NamedTuple):
    """A parameter with a row for each cell of a grid over the image, such as a position embedding.

    Along ``axis`` it has ``first`` rows of another kind (a class token's), then those of the ``height`` x ``width``
    cells, row by row.
    """

    axis: int
    first: int
    height: Extent
    width: Extent

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the grid, in cells, over an image of ``size``."""
        env = {"H": size[0], "W": size[1]}
        return at(self.height, env), at(self.width, env)


class ShapeError(Exception):
    """Raised by an op's shape rule: ``slug``, what does not fit, and the remedy. ``divisor`` > 0 names the number that
    the height and width of the model's input should be multiples of; ``operand`` the input at fault."""

    def __init__(self, slug: str, message: str, help: str, *, operand: int = 0, divisor: int = 0) -> None:
        super().__init__(message)
        self.slug, self.message, self.help, self.operand, self.divisor = slug, message, help, operand, divisor


class Op(Word, abstract=True):
    """A primitive of the graph: declared fields, and rules for shape, state and cost.

    What flows in is operand 0 (or, for ``flows = "list"``, operands 0 … n-1); the tensors named in ``takes`` follow in
    that order, optional ones only if given. Rules get the operands' shapes and the values ``env`` of the model's
    symbols at the program's input size, for the ops that need exactness there.
    """

    kind: ClassVar[str] = "op"
    flows: ClassVar[Literal["tensor", "list", "nothing"]] = "tensor"
    takes: ClassVar[tuple[Operand, ...]] = ()
    returns: ClassVar[Literal["tensor", "list"]] = "tensor"
    target: ClassVar[str] = ""

    def infer(self, shapes: Sequence[Shape], env: Mapping[str, int]) -> Shape:
        """The shape of the result. Raises :class:`ShapeError` when the operands do not fit."""
        raise NotImplementedError

    def state(self, shapes: Sequence[Shape]) -> dict[str, State]:
        """The parameters and buffers it owns, by leaf name (`weight`, `running_mean`)."""
        return {}

    def macs(self, shapes: Sequence[Shape], out: Shape) -> Extent:
        """Multiply-accumulates of one image (B = 1) that are counted: convolutions and matrix products only."""
        return 0


class Node(Record):
    """One application of an op.

    ``path`` is unique in the graph and made of bindings; ``module`` is the key prefix of its state (several nodes share
    one when a module is applied more than once), None where there is no state; ``operands`` are paths of earlier nodes
    or inputs.
    """

    path: str
    op: Op
    operands: tuple[str, ...]
    shape: Shape
    module: str | None = None
    span: Span | None = None


class Graph(Record):
    """A whole model: ``inputs`` and ``outputs`` are paths, ``nodes`` stand in topological order.

    ``size`` is the (height, width) at which the program compiles; ``names`` maps the path of every tensor binding
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
        """The values of the model's symbols at its size, for one image."""
        return {"B": 1, "H": self.size[0], "W": self.size[1]}

    def shapes(self) -> dict[str, Shape]:
        """The shape of every input and node, by path."""
        return {**self.inputs, **{node.path: node.shape for node in self.nodes}}

    def state(self) -> dict[str, State]:
        """Every parameter and buffer by its key, with concrete shapes."""
        shapes, env = self.shapes(), self.env
        found: dict[str, State] = {}
        for node in self.nodes:
            if node.module is None:
                continue
            for leaf, state in node.op.state([shapes[o] for o in node.operands]).items():
                key = ".".join(part for part in (node.module, leaf) if part)
                found.setdefault(key, State(shape_at(state.shape, env), state.kind))
        return found

    def tables(self) -> dict[str, Table]:
        """The parameters that are made for a grid over the image, by key: those of an extent `n + h*w`."""
        found: dict[str, Table] = {}
        for node in self.nodes:
            for axis, extent in enumerate(() if node.operands else node.shape):
                grid = as_grid(extent)
                if grid is not None:
                    found[node.module or node.path] = Table(axis, *grid)
        return found

    def macs(self) -> int:
        """Multiply-accumulates of one image at ``size``."""
        shapes, env = self.shapes(), self.env
        return sum(at(n.op.macs([shapes[o] for o in n.operands], n.shape), env) for n in self.nodes)

    def parameters(self, kinds: tuple[str, ...] = ("trained", "fixed")) -> int:
        """The number of scalars in the state of these kinds."""
        return sum(math.prod(shape_at(s.shape, {})) for s in self.state().values() if s.kind in kinds)
