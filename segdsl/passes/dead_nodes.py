"""Removal of nodes that no output depends on."""

from __future__ import annotations

from segdsl.ir.graph import Graph


def remove_dead_nodes(graph: Graph) -> Graph:
    """Return the graph without the nodes (and their names) that no output depends on."""
    # Nodes are in topological order, so one backward pass sees all users of a node before the node itself.
    alive = set(graph.outputs.values())
    for node in reversed(graph.nodes):
        if node.path in alive:
            alive.update(node.operands)
    nodes = tuple(node for node in graph.nodes if node.path in alive)
    names = {name: path for name, path in graph.names.items() if path in alive or path in graph.inputs}
    return graph.model_copy(update={"nodes": nodes, "names": names})
