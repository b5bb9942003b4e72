"""Drops what no output needs."""

from __future__ import annotations

from segdsl.ir.graph import Graph


def dead_nodes(graph: Graph) -> Graph:
    """The graph of the nodes that an output depends on; names of dropped nodes go with them."""
    alive = set(graph.outputs.values())
    for node in reversed(graph.nodes):
        if node.path in alive:
            alive.update(node.operands)
    nodes = tuple(node for node in graph.nodes if node.path in alive)
    names = {name: path for name, path in graph.names.items() if path in alive or path in graph.inputs}
    return graph.model_copy(update={"nodes": nodes, "names": names})
