"""Classifier layers: finding the tensors with one row per class, and matching their rows by class name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from segdsl.ir.graph import Graph, Node
from segdsl.ir.shape import evaluate_shape

BACKGROUND = "background"


def find_class_keys(graph: Graph) -> tuple[str, ...]:
    """Return the keys of the tensors with one row per class.

    These belong to the last layers with parameters before the outputs, back to the first layer that mixes channels.
    """
    nodes, shapes, env = {node.path: node for node in graph.nodes}, graph.collect_shapes(), graph.env
    found: dict[str, None] = {}
    waiting, seen = [path for path in graph.outputs.values() if path in nodes], set()
    while waiting:
        node = nodes[waiting.pop()]
        if node.path in seen or len(node.shape) < 2:
            continue
        seen.add(node.path)
        channels = evaluate_shape(node.shape, env)[1]
        state = node.op.declare_state([shapes[operand] for operand in node.operands])
        for leaf, tensor in state.items():
            if tensor.shape and evaluate_shape(tensor.shape, env)[0] == channels:
                found[f"{node.module}.{leaf}" if node.module else leaf] = None
        # A layer with a matrix mixes channels: in front of it a channel is no longer a class.
        if not any(len(tensor.shape) > 1 for tensor in state.values()):
            waiting += [path for path in node.operands if _has_channels(nodes.get(path), channels, env)]
    return tuple(found)


def _has_channels(node: Node | None, channels: int, env: Mapping[str, int]) -> bool:
    """Return whether a node gives a map or tokens of so many channels; False for an input."""
    return node is not None and len(node.shape) > 1 and evaluate_shape(node.shape, env)[1] == channels


@dataclass(frozen=True, slots=True)
class RowMap:
    """The row of the file for each class of the model, or None if the class has no match in the file.

    ``common_classes`` and ``new_classes`` are the names of the classes with and without a match.
    """

    source_rows: tuple[int | None, ...]
    common_classes: tuple[str, ...]
    new_classes: tuple[str, ...]

    @property
    def is_identity(self) -> bool:
        return self.source_rows == tuple(range(len(self.source_rows)))

    def copy_rows(self, file_tensor: Tensor, model_tensor: Tensor) -> Tensor:
        """Return a copy of ``model_tensor`` whose rows are replaced by the matching rows of ``file_tensor``."""
        result = model_tensor.detach().clone()
        for row, source in enumerate(self.source_rows):
            if source is not None:
                result[row] = file_tensor[source].to(result.dtype)
        return result


def match_rows(file_classes: Sequence[str], row_count: int, model_classes: Sequence[str]) -> RowMap | None:
    """Match the rows of a file to the classes of the model by name.

    Returns None if the class names of the file or of the model are unknown.
    """
    # Tools such as OTX list only the foreground classes: one name fewer than rows means that row 0 is the background.
    if file_classes and len(file_classes) + 1 == row_count and BACKGROUND not in file_classes:
        file_classes = (BACKGROUND, *file_classes)
    if len(file_classes) != row_count or not model_classes:
        return None
    places = {name: row for row, name in enumerate(file_classes)}
    order = tuple(places.get(name) for name in model_classes)
    return RowMap(
        order,
        tuple(name for name, row in zip(model_classes, order, strict=True) if row is not None),
        tuple(name for name, row in zip(model_classes, order, strict=True) if row is None),
    )
