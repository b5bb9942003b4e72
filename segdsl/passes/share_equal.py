"""Computes once what is written twice: nodes of the same op, operands and module."""

from __future__ import annotations

from segdsl.ir.graph import Graph, Node
from segdsl.ops.drop import Noise
from segdsl.passes.rewrite import redirected, replaced


def share_equal(graph: Graph) -> Graph:
    """The graph in which the first of several equal nodes stands for all. Noise is never equal to other noise."""
    instead: dict[str, str] = {}
    kept: list[Node] = []
    known: dict[tuple[object, ...], str] = {}
    for node in (redirected(node, instead) for node in graph.nodes):
        key = (node.op, node.operands, node.module)
        if not isinstance(node.op, Noise) and key in known:
            instead[node.path] = known[key]
            continue
        known[key] = node.path
        kept.append(node)
    return replaced(graph, kept, instead)
