"""Helpers shared by the passes: replacing nodes wherever they are referenced."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from segdsl.ir.graph import Graph, Node


def redirect_operands(node: Node, replacements: Mapping[str, str]) -> Node:
    """Return the node with its operands replaced."""
    operands = tuple(replacements.get(path, path) for path in node.operands)
    # Most nodes do not change, and copying a record is slow compared with the comparison.
    return node if operands == node.operands else node.model_copy(update={"operands": operands})


def replace_nodes(graph: Graph, nodes: Iterable[Node], replacements: Mapping[str, str]) -> Graph:
    """Return the graph of ``nodes``, with names and outputs moved from removed nodes to their replacements."""
    return graph.model_copy(
        update={
            "nodes": tuple(nodes),
            "names": {name: replacements.get(path, path) for name, path in graph.names.items()},
            "outputs": {name: replacements.get(path, path) for name, path in graph.outputs.items()},
        }
    )
