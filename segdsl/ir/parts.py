"""A graph as its author sees it: the parts that bindings name, one inside the other, with what each gives and costs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, takewhile

from segdsl.ir.graph import Graph
from segdsl.ir.shape import at, shape_at


@dataclass
class Part:
    """What lies below a path: ``outputs`` are the shapes of the tensors that it gives, for one image at the size.

    ``parameters`` counts all scalars, ``trained`` those that training changes, ``fixed`` those that are stored and
    never trained, ``macs`` multiply-accumulates.
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
    def kept(self) -> str:
        """What training leaves as it is: "frozen" where all that could be trained is, "fixed" where nothing could."""
        if not self.parameters or self.trained:
            return ""
        return "fixed" if self.fixed == self.parameters else "frozen"

    def called(self, names: Mapping[str, str]) -> str:
        """What it is called: by another of ``names``, an output's, where it has no parameters. One with parameters goes
        by its path alone, which `train.freeze` and `weights` take."""
        return self.name if self.parameters else names.get(self.path, self.name)

    def sizes(self, more: str = "…") -> str:
        """Its outputs without the batch: the one, the same n times, or the first and the last of several."""
        texts = ["x".join(map(str, shape[1:])) for shape in self.outputs]
        if len(set(texts)) <= 1:
            return (texts[0] if len(texts) == 1 else f"{len(texts)} of {texts[0]}") if texts else ""
        return f"{texts[0]} {more} {texts[-1]}" if len(texts) > 2 else ", ".join(texts)

    def opens(self, level: int, depth: int) -> bool:
        """Whether its children are parts worth telling apart, in an outline of ``depth`` levels: some have children.

        A list, or a chain of copies, is opened from the third level on only.
        """
        named = depth > 2 or not all(child.name.isdigit() for child in self.children.values())
        return level + 1 < depth and named and any(child.children for child in self.children.values())

    def rows(self, depth: int, level: int = 0) -> Iterator[tuple[int, Part]]:
        """The parts below, with their level, down to ``depth`` levels; one of single ops stays closed."""
        for child in self.children.values():
            yield level, child
            if child.opens(level, depth):
                yield from child.rows(depth, level + 1)


def parts_of(graph: Graph, frozen: Sequence[str] = ()) -> Part:
    """The whole graph as a part, with those inside it. What lies below a ``frozen`` path is not trained."""
    root = Part("")
    shapes, env = graph.shapes(), graph.env
    last: dict[str, tuple[int, ...]] = {}
    for node in graph.nodes:
        macs = at(node.op.macs([shapes[o] for o in node.operands], node.shape), env)
        for part in _along(root, node.path.partition(":")[0]):
            part.macs += macs
            last[part.path] = shape_at(node.shape, env)
    for key, state in graph.state().items():
        if state.kind == "buffer":
            continue
        scalars = math.prod(int(str(extent)) for extent in state.shape)
        kept = state.kind == "trained" and not is_below(key, frozen)
        for part in _along(root, key, create=False):
            part.parameters += scalars
            part.trained += scalars if kept else 0
            part.fixed += scalars if state.kind == "fixed" else 0
    _set_outputs(root, graph, last)
    return root


def is_below(path: str, others: Sequence[str]) -> bool:
    """Whether a path is one of the others, or lies below one."""
    return any(path == other or path.startswith(f"{other}.") for other in others)


def _along(root: Part, path: str, create: bool = True) -> Iterator[Part]:
    """The parts from the root to ``path``."""
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
    shapes, env = graph.shapes(), graph.env
    # The first copy in a chain and the first element of what the chain gives have one name: `stage0.0`.
    made = graph.names.get(part.path)
    names = [part.path] if made is not None and is_below(made, [part.path]) else []
    if not names:
        elements = (f"{part.path}.{number}" for number in count())
        names = list(takewhile(graph.names.__contains__, elements))
    found = [shape_at(shapes[graph.names[name]], env) for name in names]
    part.outputs = tuple(found) or ((last[part.path],) if part.path in last else ())
    for child in part.children.values():
        _set_outputs(child, graph, last)
