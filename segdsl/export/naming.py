"""The names of an OpenVINO model's nodes: the paths of the program's graph, so that a person finds them there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from segdsl.export import runtime

UNNAMED = ("Parameter", "Result", "Constant")
AT_THE_END = "output"
"""What lies behind the last node of the graph."""


def name_by_paths(nodes: Sequence[Any], paths: Iterable[str]) -> set[str]:
    """Gives each node of several OpenVINO ones the path that belongs to it; says which were given.

    A node that several paths mean has the first; one of several results, or none of its own, has no path.
    """
    given: set[str] = set()
    for node, path in zip(nodes, paths, strict=True):
        named = node.get_friendly_name() in given or path in given
        if not named and node.get_type_name() not in UNNAMED and node.get_output_size() == 1:
            node.set_friendly_name(path)
            given.add(path)
    return given


def name_the_rest(model: Any, paths: set[str]) -> None:
    """Gives every node without a path a name below that of what it is computed for: `stem.conv/Convolution`."""
    taken = set(paths)
    owners: dict[str, str] = {}
    for node in reversed(model.get_ordered_ops()):
        name = node.get_friendly_name()
        if name in paths:
            owners[name] = name
            continue
        consumers = [target.get_node().get_friendly_name() for target in _consumers(node)]
        owner = next((owners[consumer] for consumer in consumers if consumer in owners), AT_THE_END)
        if node.get_type_name() in UNNAMED:
            owners[name] = owner
            continue
        fresh, number = f"{owner}/{node.get_type_name()}", 1
        while fresh in taken:
            number += 1
            fresh = f"{owner}/{node.get_type_name()}_{number}"
        node.set_friendly_name(fresh)
        taken.add(fresh)
        owners[fresh] = owner


def part_of(name: str) -> str:
    """The path in a node's name."""
    return name.partition("/")[0]


def _consumers(node: Any) -> list[Any]:
    return [target for output in node.outputs() for target in output.get_target_inputs()]


def node_named(model: Any, name: str) -> Any | None:
    """The node of that name."""
    return next((node for node in model.get_ops() if node.get_friendly_name() == name), None)


def with_outputs(model: Any, names: Sequence[str]) -> tuple[Any, list[str]]:
    """A copy of ``model`` that gives these nodes too, behind its own output, and those of the names that it has."""
    clone = model.clone()
    known = {node.get_friendly_name(): node for node in clone.get_ops()}
    found = [name for name in names if name in known]
    results = [clone.outputs[0].get_node().input_value(0), *(known[name].output(0) for name in found)]
    return runtime.openvino().Model(results, clone.get_parameters()), found
