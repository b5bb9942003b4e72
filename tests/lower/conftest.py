"""Handwritten graphs, as the elaborator would make them from a few lines of `.seg`, and the seven published models."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from torch import fx

import segdsl.ops  # noqa: F401 - registers the ops
from segdsl.diagnostics import Span
from segdsl.ir.graph import Graph, Node, Op
from segdsl.ir.program import Program
from segdsl.ir.shape import Shape, make_symbol
from segdsl.lang.program import load
from segdsl.lower.compiled import compile_program
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


ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT.parent / "shared" / "reference"
GOLDENS = REFERENCE / "goldens"
SPECS = {
    "lite_hrnet_s": "litehrnet_s", "lite_hrnet_18": "litehrnet_18", "lite_hrnet_x": "litehrnet_x",
    "segnext_tiny": "segnext_t", "segnext_small": "segnext_s", "segnext_base": "segnext_b",
    "dinov2-small-seg": "dinov2",
}  # fmt: skip
"""The program of each published model, by the reference's name of it."""


class Published:
    """One of the seven published models: its program here, and the reference's numbers for it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.reference = REFERENCE
        self.spec = ROOT / "specs" / f"{SPECS[name]}.seg"
        self.expected = self._json(GOLDENS / "goldens.json")["models"][name]
        self.facts = self._json(REFERENCE / "facts.json")["models"][name]
        self.keys = self._json(REFERENCE / "keys" / f"{name}.json")["state_dict"]
        self.arrays = np.load(GOLDENS / f"{name}.npz")

    def program(self, classes: int = 2, size: tuple[int, int] | None = None) -> Program:
        """The program for a number of classes; the CNNs take any size as they are, DINOv2 is built for one."""
        fixed = size is not None and self.name.startswith("dinov2")
        return load(self.spec, [f"data.input_size={size[0]}x{size[1]}"] if fixed and size else [], classes)

    @cached_property
    def fill(self) -> Any:
        """The module that makes the weights and inputs of the goldens."""
        sys.path.insert(0, str(REFERENCE))
        try:
            import fill  # pyright: ignore[reportMissingImports]
        finally:
            sys.path.remove(str(REFERENCE))
        return fill

    def model(self, classes: int, size: tuple[int, int], outputs: tuple[str, ...] = ()) -> fx.GraphModule:
        """The model with the weights of the goldens, in training mode."""
        model = compile_program(self.program(classes, size), weights="none", outputs=outputs).model
        checksum = self.fill.load(model, self.name)
        if size[0] >= 64 and not self.name.startswith("dinov2"):
            assert checksum["sum"] == pytest.approx(self.expected["fill"][f"nc{classes}"]["sum"], abs=1e-3)
        return model

    def image(self, size: tuple[int, int], batch: int = 2) -> torch.Tensor:
        return torch.from_numpy(self.fill.image(batch, size))

    def golden(self, names: str, values: str) -> dict[str, float]:
        """Two arrays of the goldens as a dictionary."""
        return dict(zip(self.arrays[names].tolist(), self.arrays[values].tolist(), strict=True))

    @staticmethod
    def _json(path: Path) -> Any:
        return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def drawn_model(sketch: type[Sketch]) -> Any:
    """Draws a random graph from hypothesis' ``data``."""
    return lambda data: draw_model(data, sketch)


@cache
def published_model(name: str) -> Published:
    return Published(name)


@pytest.fixture(scope="module")
def two_threads() -> Iterator[None]:
    """Compute with two threads, as the goldens were: another number changes the order of sums, and so their rounding."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=list(SPECS))
def published(request: pytest.FixtureRequest, two_threads: None) -> Published:
    """Each of the seven published models in turn."""
    return _published_or_skip(request.param)


@pytest.fixture(scope="module")
def dinov2() -> Published:
    """The one of the seven whose goldens have a position table and a full size."""
    return _published_or_skip("dinov2-small-seg")


def _published_or_skip(name: str) -> Published:
    if not REFERENCE.is_dir():
        pytest.skip("the shared folder with the reference's numbers is not there")
    return published_model(name)
