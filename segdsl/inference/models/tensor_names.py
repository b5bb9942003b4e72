"""The names of an OpenVINO model's nodes: the paths of the program's graph, so that a person finds them there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from segdsl.inference.models import openvino_runtime

UNNAMED = ("Parameter", "Result", "Constant")
SAYING = ("Softmax", "TopK")
"""What turns logits into what a model says, but for the empty channel before the first."""
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


def name_of_logits(model: Any, padded: bool) -> str:
    """The name of the tensor that the softmax, or the choice of the best class, of a shipped model takes.

    With ``padded`` an empty channel is put before it. The node of the program's last path need not be there: OpenVINO
    drops what adds nothing, and merges what belongs together.
    """
    node = model.results[0]
    while node.get_type_name() not in SAYING:
        node = node.input_value(0).get_node()
    source = node.input_value(0)
    if padded:
        source = source.get_node().input_value(0)
    return _name_of(source)


def tensors_by_name(model: Any) -> dict[str, Any]:
    """The outputs of all nodes by name; where a node has several, their numbers stand behind a colon."""
    computed = (node for node in model.get_ops() if node.get_type_name() != "Result")
    return {_name_of(output): output for node in computed for output in node.outputs()}


def _name_of(output: Any) -> str:
    node = output.get_node()
    name = node.get_friendly_name()
    return name if node.get_output_size() == 1 else f"{name}:{output.get_index()}"


def with_outputs(model: Any, names: Sequence[str]) -> Any:
    """A copy of ``model`` that gives the tensors of these names too, behind its own output.

    Raises KeyError for a name that it lacks.
    """
    clone = model.clone()
    known = tensors_by_name(clone)
    results = [clone.outputs[0].get_node().input_value(0), *(known[name] for name in names)]
    return openvino_runtime.openvino().Model(results, clone.get_parameters())
