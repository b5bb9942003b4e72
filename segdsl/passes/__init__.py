"""Passes over the graph: plain functions ``Graph -> Graph`` in a fixed order, one module each.

A pass preserves the results of the outputs and the state that they use, and removes names of deleted nodes from
``graph.names``.
"""

from __future__ import annotations

from collections.abc import Callable

from segdsl.ir.graph import Graph
from segdsl.passes.dead_nodes import remove_dead_nodes
from segdsl.passes.remove_identity import remove_identity
from segdsl.passes.share_equal import share_equal

Pass = Callable[[Graph], Graph]

# Removing identities first leaves nodes without users for the second pass, and makes operands equal for the third.
PASSES: dict[str, Pass] = {
    "remove_identity": remove_identity,
    "dead_nodes": remove_dead_nodes,
    "share_equal": share_equal,
}
"""The passes by name, in execution order."""


def run_passes(graph: Graph, until: str | None = None) -> Graph:
    """Run all passes, or those up to and including ``until``, and return the resulting graph."""
    for name, rewrite in PASSES.items():
        graph = rewrite(graph)
        if name == until:
            break
    return graph


__all__ = ["PASSES", "Pass", "remove_dead_nodes", "remove_identity", "run_passes", "share_equal"]
