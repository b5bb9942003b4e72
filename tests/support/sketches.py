"""Handwritten and drawn graphs, as the elaborator would make them from a few lines of `.seg`."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import strategies as st

import segdsl.ops  # noqa: F401 - registers the ops
from segdsl.diagnostics import Span
from segdsl.ir.graph import Graph, Node, Op
from segdsl.ir.shape import Shape, make_symbol
from segdsl.ops.act import GELU, ReLU
from segdsl.ops.conv import Conv
from segdsl.ops.drop import Dropout, DropPath
from segdsl.ops.join import ChannelShuffle, Concat
from segdsl.ops.names import is_name_taken
from segdsl.ops.norm import BatchNorm, GroupNorm, L2Normalize, LayerNorm
from segdsl.ops.scalar import Add, Multiply

B, H, W = make_symbol("B"), make_symbol("H"), make_symbol("W")


class Sketch:
    """Collects nodes; each gets its shape from its op, and its path as the key of its state."""

    def __init__(self, size: tuple[int, int] = (32, 48), **inputs: Shape) -> None:
        self.size = size
        self.inputs: dict[str, Shape] = inputs or {"image": (B, 3, H, W)}
        self.shapes = dict(self.inputs)
        self.nodes: list[Node] = []

    def add(self, path: str, op: Op, *operands: str, module: str | None = None, span: Span | None = None) -> str:
        shapes = [self.shapes[operand] for operand in operands]
        self.shapes[path] = op.infer_shape(shapes, {"B": 1, "H": self.size[0], "W": self.size[1]})
        key = path if module is None and op.declare_state(shapes) else module
        node = Node(path=path, op=op, operands=operands, shape=self.shapes[path], module=key, span=span)
        self.nodes.append(node)
        return path

    def graph(self, *outputs: str, names: dict[str, str] | None = None) -> Graph:
        return Graph(
            name="Sketch", inputs=self.inputs, nodes=tuple(self.nodes), size=self.size, names=names or {},
            outputs={f"out{index}": path for index, path in enumerate(outputs or [self.nodes[-1].path])},
        )  # fmt: skip


@pytest.fixture(scope="session")
def sketch() -> type[Sketch]:
    return Sketch


NAMES = (
    "conv", "conv_add1", "attention", "resize_to", "F", "nn", "torch", "Tensor", "Group", "assemble", "parts", "self_",
    "self", "lambda", "_lambda", "lambda_", "__class__", "logits", "run_conv", "finish", "a.conv", "a", "a.0", "a.1",
    "image_", "unfrozen", "b.norm",
)  # fmt: skip
"""Names that are valid in a model but collide with names of torch or Python."""


def draw_model(data: Any, sketch: type[Sketch]) -> Graph:
    """A random graph of up to a dozen ops on maps of 4 channels, with names that collide if they can."""
    drawn = sketch((6, 8))
    values = [drawn.add("stem", Conv(channels=4), "image")]
    for name in data.draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=12, unique=True)):
        one, two = (data.draw(st.sampled_from(values)) for _ in range(2))
        op = data.draw(
            st.sampled_from([op for op in OPS if not (is_name_taken(name) and op.declare_state([(1, 4, 6, 8)]))])
        )
        is_unnamed = data.draw(st.booleans()) and not op.declare_state([(1, 4)])
        path = f"{name}:{type(op).__name__.lower()}" if is_unnamed else name
        if isinstance(op, Conv | BatchNorm):
            # The weights are called by the binding; a sum in front of them has taken the node's path.
            values.append(drawn.add(f"{name}:conv", op, drawn.add(name, Add(), one, two), module=name))
        elif isinstance(op, Add | Concat):
            values.append(drawn.add(path, Add(), one, two))
        else:
            values.append(drawn.add(path, op, one))
    outputs = data.draw(st.lists(st.sampled_from(values), min_size=1, max_size=3, unique=True))
    return drawn.graph(*outputs, names={path.partition(":")[0]: path for path in values})


OPS: list[Op] = [
    Conv(channels=4, init="kaiming"), Conv(channels=4), BatchNorm(), Add(), ReLU(), GELU(), Dropout(p=0.5),
    DropPath(p=0.5), Multiply(left=2.0), ChannelShuffle(groups=2), L2Normalize(over="space"), LayerNorm(),
    GroupNorm(groups=2),
]  # fmt: skip


@pytest.fixture(scope="session")
def drawn_model(sketch: type[Sketch]) -> Any:
    """Draws a random graph from hypothesis' ``data``."""
    return lambda data: draw_model(data, sketch)
