"""A graph as a tree of named parts, nested like its bindings, with output shapes and costs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, takewhile

from segdsl.ir.graph import Graph
from segdsl.ir.shape import evaluate_extent, evaluate_shape


@dataclass
class Part:
    """The part of a graph at a path; ``outputs`` are the shapes of its output tensors for one image.

    ``parameters`` counts all scalars, ``trained`` those that training changes, ``fixed`` those that are stored but
    never trained, ``macs`` the multiply-accumulates.
    """

    path: str
    children: dict[str, Part] = field(default_factory=dict)
    outputs: tuple[tuple[int, ...], ...] = ()
    parameters: int = 0
    trained: int = 0
    fixed: int = 0
    macs: int = 0

    @property
    def name(self) -> str:
        return self.path.rpartition(".")[2]

    @property
    def freeze_state(self) -> str:
        """Label for untrained parts: "frozen" if training could change it, "fixed" if not, "" if it is trained."""
        if not self.parameters or self.trained:
            return ""
        return "fixed" if self.fixed == self.parameters else "frozen"

    def find_display_name(self, names: Mapping[str, str]) -> str:
        """Return the name for display: the output's name from ``names``, if there is one."""
        # A part with parameters keeps its own name, since `train.freeze` and `weights` refer to it by path.
        return self.name if self.parameters else names.get(self.path, self.name)

    def format_sizes(self, ellipsis: str = "…") -> str:
        """Return the output sizes without the batch: `64x128x128`, `4 of 64x8x8`, or the first and the last."""
        texts = ["x".join(map(str, shape[1:])) for shape in self.outputs]
        if len(set(texts)) <= 1:
            return (texts[0] if len(texts) == 1 else f"{len(texts)} of {texts[0]}") if texts else ""
        return f"{texts[0]} {ellipsis} {texts[-1]}" if len(texts) > 2 else ", ".join(texts)

    def needs_expansion(self, level: int, depth: int) -> bool:
        """Return whether an outline of ``depth`` levels should show the children of this part, at ``level``."""
        # A part made of single ops stays closed. Elements of a list or chain have numbers for names, and mostly look
        # alike: they are shown only in outlines of more than two levels.
        has_names = depth > 2 or not all(child.name.isdigit() for child in self.children.values())
        return level + 1 < depth and has_names and any(child.children for child in self.children.values())

    def walk_rows(self, depth: int, level: int = 0) -> Iterator[tuple[int, Part]]:
        """Yield the parts below this one with their level, down to ``depth`` levels."""
        for child in self.children.values():
            yield level, child
            if child.needs_expansion(level, depth):
                yield from child.walk_rows(depth, level + 1)


def build_parts(graph: Graph, frozen: Sequence[str] = ()) -> Part:
    """Return the whole graph as a tree of parts. Parameters below a ``frozen`` path do not count as trained."""
    root = Part("")
    shapes, env = graph.collect_shapes(), graph.env
    last: dict[str, tuple[int, ...]] = {}
    for node in graph.nodes:
        macs = evaluate_extent(node.op.count_macs([shapes[o] for o in node.operands], node.shape), env)
        # The path of an unnamed node ends in `:op`; it belongs to the binding in front of the colon.
        for part in _walk_path(root, node.path.partition(":")[0]):
            part.macs += macs
            last[part.path] = evaluate_shape(node.shape, env)
    for key, state in graph.collect_state().items():
        if state.kind == "buffer":
            continue
        scalars = math.prod(int(str(extent)) for extent in state.shape)
        is_trained = state.kind == "trained" and not is_below(key, frozen)
        for part in _walk_path(root, key, create=False):
            part.parameters += scalars
            part.trained += scalars if is_trained else 0
            part.fixed += scalars if state.kind == "fixed" else 0
    _set_outputs(root, graph, last)
    return root


def is_below(path: str, others: Sequence[str]) -> bool:
    """Return whether a path equals one of the others or is below it."""
    return any(path == other or path.startswith(f"{other}.") for other in others)


def _walk_path(root: Part, path: str, create: bool = True) -> Iterator[Part]:
    """Yield the parts from the root to ``path``, creating missing ones if ``create``."""
    part = root
    yield part
    for name in path.split("."):
        if name not in part.children:
            if not create:
                return
            part.children[name] = Part(f"{part.path}.{name}" if part.path else name)
        part = part.children[name]
        yield part


def _set_outputs(part: Part, graph: Graph, last: Mapping[str, tuple[int, ...]]) -> None:
    shapes, env = graph.collect_shapes(), graph.env
    # The first copy in a chain and the first element of the chain's result share one name: `stage0.0`. The name
    # belongs to this part only if the node behind it is inside the part.
    node_path = graph.names.get(part.path)
    names = [part.path] if node_path is not None and is_below(node_path, [part.path]) else []
    if not names:
        elements = (f"{part.path}.{number}" for number in count())
        names = list(takewhile(graph.names.__contains__, elements))
    found = [evaluate_shape(shapes[graph.names[name]], env) for name in names]
    part.outputs = tuple(found) or ((last[part.path],) if part.path in last else ())
    for child in part.children.values():
        _set_outputs(child, graph, last)
