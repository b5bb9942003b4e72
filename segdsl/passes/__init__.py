"""Rewrites of the graph: an ordered tuple of plain functions ``Graph -> Graph``, one file each.

Each keeps what the outputs compute and the state that they use, and leaves no name in ``graph.names`` that points to a
node that is gone.
"""

from __future__ import annotations

from collections.abc import Callable

from segdsl.ir.graph import Graph
from segdsl.passes.dead_nodes import dead_nodes
from segdsl.passes.remove_identity import remove_identity
from segdsl.passes.share_equal import share_equal

Pass = Callable[[Graph], Graph]

PASSES: dict[str, Pass] = {
    "remove_identity": remove_identity,
    "dead_nodes": dead_nodes,
    "share_equal": share_equal,
}
"""The passes by name, in the order in which they run."""


def run_passes(graph: Graph, until: str | None = None) -> Graph:
    """The graph after all passes, or after those up to and including ``until``."""
    for name, rewrite in PASSES.items():
        graph = rewrite(graph)
        if name == until:
            break
    return graph


__all__ = ["PASSES", "Pass", "dead_nodes", "remove_identity", "run_passes", "share_equal"]
