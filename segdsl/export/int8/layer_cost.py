"""The 8-bit layers of a quantized model, and the accuracy that each part of the network costs."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from segdsl.inference.models.tensor_names import extract_path

FAKE_QUANTIZE = "FakeQuantize"
# Each measurement compiles the model once, which dominates the time of the search.
MAX_MEASUREMENTS = 32
CostFunction = Callable[[Sequence[str]], tuple[float, float]]
"""Returns the logit error and the change in Dice if only the layers with these names compute in 8 bits."""


def list_int8_layers(model: Any) -> list[str]:
    """Return the names of the nodes with a quantized input, in order."""
    return [node.get_friendly_name() for node in model.get_ordered_ops() if _find_quantized_inputs(node)]


def restore_float_layers(model: Any, names: Collection[str]) -> Any:
    """Return a copy of ``model`` in which the named nodes read their inputs from before the quantization."""
    clone, selection = model.clone(), set(names)
    for node in clone.get_ordered_ops():
        if node.get_friendly_name() in selection:
            for index in _find_quantized_inputs(node):
                quantizer = node.input_value(index).get_node()
                node.input(index).replace_source_output(quantizer.input_value(0))
    return clone


def _find_quantized_inputs(node: Any) -> list[int]:
    # A quantizer behind a quantizer is not a layer that computes in 8 bits.
    if node.get_type_name() == FAKE_QUANTIZE:
        return []
    inputs = range(node.get_input_size())
    return [k for k in inputs if node.input_value(k).get_node().get_type_name() == FAKE_QUANTIZE]


def rank_costly_parts(names: Sequence[str], cost: CostFunction) -> Iterator[tuple[str, list[str], tuple[float, float]]]:
    """Yield the parts of the network: path, layers and cost of each.

    The costliest part is split into its children, again and again, up to a fixed number of measurements.
    """
    # Best-first: the few measurements go where the error is. heapq pops the smallest, so errors are negated.
    count = 0
    queue: list[tuple[float, str, list[str], tuple[float, float]]] = [(0.0, "", list(names), (0.0, 0.0))]
    while queue and count < MAX_MEASUREMENTS:
        _, path, layers, own_cost = heapq.heappop(queue)
        children = split_into_parts(path, layers)
        if len(children) < 2:
            yield path, layers, own_cost
            continue
        for child, child_layers in children.items():
            child_cost = cost(child_layers)
            count += 1
            heapq.heappush(queue, (-child_cost[0], child, child_layers, child_cost))
    yield from ((path, layers, own_cost) for _, path, layers, own_cost in queue)


def split_into_parts(path: str, names: Sequence[str]) -> dict[str, list[str]]:
    """Group layers by the children of ``path``; levels with only one child are skipped. Empty if there is no split."""
    depth = path.count(".") + 1 if path else 0
    max_depth = max((extract_path(name).count(".") + 1 for name in names), default=0)
    for level in range(depth + 1, max_depth + 1):
        groups: dict[str, list[str]] = defaultdict(list)
        for name in names:
            groups[".".join(extract_path(name).split(".")[:level])].append(name)
        if len(groups) > 1:
            return dict(groups)
    return {}
