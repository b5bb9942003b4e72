"""Names of the nodes in an OpenVINO model: they follow the paths in the program, so that users recognize them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from segdsl.inference.models import openvino_runtime

NAMELESS_TYPES = ("Parameter", "Result", "Constant")
DECISION_TYPES = ("Softmax", "TopK")
"""Types of the node that turns logits into the output of a model."""
OUTPUT_OWNER = "output"
"""Path prefix of the nodes after the last node of the program's graph."""


def name_by_paths(nodes: Sequence[Any], paths: Iterable[str]) -> set[str]:
    """Name each OpenVINO node after its path; return the paths that were used.

    A node with several paths gets the first one. Nodes with several outputs, and parameters, results and constants,
    are not named.
    """
    used: set[str] = set()
    for node, path in zip(nodes, paths, strict=True):
        # OpenVINO merges equal nodes, so that several paths may belong to the same one.
        has_name = node.get_friendly_name() in used or path in used
        if not has_name and node.get_type_name() not in NAMELESS_TYPES and node.get_output_size() == 1:
            node.set_friendly_name(path)
            used.add(path)
    return used


def name_remaining_nodes(model: Any, paths: set[str]) -> None:
    """Name every node without a path after the path that it is computed for, such as `stem.conv/Convolution`."""
    taken = set(paths)
    owners: dict[str, str] = {}
    # Backwards, so that the owner of all consumers is known before a node is named.
    for node in reversed(model.get_ordered_ops()):
        name = node.get_friendly_name()
        if name in paths:
            owners[name] = name
            continue
        consumers = [target.get_node().get_friendly_name() for target in _list_consumers(node)]
        owner = next((owners[consumer] for consumer in consumers if consumer in owners), OUTPUT_OWNER)
        if node.get_type_name() in NAMELESS_TYPES:
            owners[name] = owner
            continue
        unique, number = f"{owner}/{node.get_type_name()}", 1
        while unique in taken:
            number += 1
            unique = f"{owner}/{node.get_type_name()}_{number}"
        node.set_friendly_name(unique)
        taken.add(unique)
        owners[unique] = owner


def extract_path(name: str) -> str:
    """Return the path in the name of a node."""
    return name.partition("/")[0]


def _list_consumers(node: Any) -> list[Any]:
    return [target for output in node.outputs() for target in output.get_target_inputs()]


def find_logits_name(model: Any, has_empty_channel: bool) -> str:
    """Return the name of the logits: the tensor that enters the softmax, or the argmax, of an exported model.

    If the model ``has_empty_channel``, it is the tensor before the padding that adds this channel.
    """
    # Searched from the end: the node of the program's last path may be gone, since OpenVINO removes and fuses nodes.
    node = model.results[0]
    while node.get_type_name() not in DECISION_TYPES:
        node = node.input_value(0).get_node()
    source = node.input_value(0)
    if has_empty_channel:
        source = source.get_node().input_value(0)
    return _format_tensor_name(source)


def map_tensors_by_name(model: Any) -> dict[str, Any]:
    """Return the outputs of all nodes by name; with several outputs per node, the index follows a colon."""
    computed = (node for node in model.get_ops() if node.get_type_name() != "Result")
    return {_format_tensor_name(output): output for node in computed for output in node.outputs()}


def _format_tensor_name(output: Any) -> str:
    node = output.get_node()
    name = node.get_friendly_name()
    return name if node.get_output_size() == 1 else f"{name}:{output.get_index()}"


def add_outputs(model: Any, names: Sequence[str]) -> Any:
    """Return a copy of ``model`` that also outputs the tensors with these names, after its own output.

    Raises KeyError for an unknown name.
    """
    clone = model.clone()
    tensors = map_tensors_by_name(clone)
    results = [clone.outputs[0].get_node().input_value(0), *(tensors[name] for name in names)]
    return openvino_runtime.import_openvino().Model(results, clone.get_parameters())
