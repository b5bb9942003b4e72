"""What the passes share: replacing nodes by others everywhere they are mentioned."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from segdsl.ir.graph import Graph, Node


def redirected(node: Node, instead: Mapping[str, str]) -> Node:
    """The node with its operands replaced; itself where nothing changes."""
    operands = tuple(instead.get(path, path) for path in node.operands)
    return node if operands == node.operands else node.model_copy(update={"operands": operands})


def replaced(graph: Graph, nodes: Iterable[Node], instead: Mapping[str, str]) -> Graph:
    """The graph of ``nodes``, whose names and outputs follow ``instead`` from dropped nodes to what replaces them."""
    return graph.model_copy(
        update={
            "nodes": tuple(nodes),
            "names": {name: instead.get(path, path) for name, path in graph.names.items()},
            "outputs": {name: instead.get(path, path) for name, path in graph.outputs.items()},
        }
    )
