"""Graphs by hand: what the elaborator would make of a few lines of `.seg`."""

from __future__ import annotations

import pytest

import segdsl.ops  # noqa: F401 - registers the ops
from segdsl.diagnostics import Span
from segdsl.ir.graph import Graph, Node, Op
from segdsl.ir.shape import Shape, symbol

B, H, W = symbol("B"), symbol("H"), symbol("W")


class Sketch:
    """Collects nodes; each gets its shape from its op, and its path as the key of its state."""

    def __init__(self, size: tuple[int, int] = (32, 48), **inputs: Shape) -> None:
        self.size = size
        self.inputs: dict[str, Shape] = inputs or {"image": (B, 3, H, W)}
        self.shapes = dict(self.inputs)
        self.nodes: list[Node] = []

    def add(self, path: str, op: Op, *operands: str, module: str | None = None, span: Span | None = None) -> str:
        shapes = [self.shapes[operand] for operand in operands]
        self.shapes[path] = op.infer(shapes, {"B": 1, "H": self.size[0], "W": self.size[1]})
        key = path if module is None and op.state(shapes) else module
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
