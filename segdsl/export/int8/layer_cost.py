"""The layers of a quantized model that compute in 8 bits, and what each part of the network costs."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from segdsl.inference.models.tensor_names import part_of

ROUNDING = "FakeQuantize"
MEASURES = 32
"""How many parts are measured: each is a compilation of the model."""
Cost = Callable[[Sequence[str]], tuple[float, float]]
"""What layers of these names cost when they alone are of 8 bits: the error of the logits, and the change in Dice."""


def layers_of(model: Any) -> list[str]:
    """The names of the nodes that take a rounded tensor, in order."""
    return [node.get_friendly_name() for node in model.get_ordered_ops() if _rounded_inputs(node)]


def with_float(model: Any, names: Collection[str]) -> Any:
    """A copy of ``model`` in which the nodes of these names take their tensors as they were before rounding."""
    clone, wanted = model.clone(), set(names)
    for node in clone.get_ordered_ops():
        if node.get_friendly_name() in wanted:
            for place in _rounded_inputs(node):
                rounding = node.input_value(place).get_node()
                node.input(place).replace_source_output(rounding.input_value(0))
    return clone


def _rounded_inputs(node: Any) -> list[int]:
    if node.get_type_name() == ROUNDING:
        return []
    places = range(node.get_input_size())
    return [k for k in places if node.input_value(k).get_node().get_type_name() == ROUNDING]


def costly_parts(names: Sequence[str], cost: Cost) -> Iterator[tuple[str, list[str], tuple[float, float]]]:
    """The parts of the network by path, with their layers and costs: the costliest is divided into its parts, again and
    again, until so many are measured."""
    measured = 0
    queue: list[tuple[float, str, list[str], tuple[float, float]]] = [(0.0, "", list(names), (0.0, 0.0))]
    while queue and measured < MEASURES:
        _, path, inside, own = heapq.heappop(queue)
        below = parts_below(path, inside)
        if len(below) < 2:
            yield path, inside, own
            continue
        for child, layers in below.items():
            found = cost(layers)
            measured += 1
            heapq.heappush(queue, (-found[0], child, layers, found))
    yield from ((path, inside, own) for _, path, inside, own in queue)


def parts_below(path: str, names: Sequence[str]) -> dict[str, list[str]]:
    """The layers by the parts right below ``path``, or below the first path under it where they divide."""
    depth = path.count(".") + 1 if path else 0
    deepest = max((part_of(name).count(".") + 1 for name in names), default=0)
    for level in range(depth + 1, deepest + 1):
        found: dict[str, list[str]] = defaultdict(list)
        for name in names:
            found[".".join(part_of(name).split(".")[:level])].append(name)
        if len(found) > 1:
            return dict(found)
    return {}
