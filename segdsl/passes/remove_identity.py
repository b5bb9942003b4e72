"""Drops what changes nothing: Identity, a Split into one part, a Concat of one, noise of strength 0."""

from __future__ import annotations

from segdsl.ir.graph import Graph, Node
from segdsl.ops.act import Identity
from segdsl.ops.drop import ChannelDropout, Dropout, DropPath
from segdsl.ops.join import ChannelShuffle, Concat, Item, Split
from segdsl.passes.rewrite import redirected, replaced


def remove_identity(graph: Graph) -> Graph:
    """The graph without nodes that pass their first operand on."""
    instead: dict[str, str] = {}
    kept: list[Node] = []
    undivided = {node.path for node in graph.nodes if isinstance(node.op, Split) and len(node.op.sizes) == 1}
    for node in graph.nodes:
        moved = redirected(node, instead)
        of_undivided = isinstance(node.op, Item) and node.operands[0] in undivided
        if node.path in undivided or of_undivided or _passes_on(node):
            instead[node.path] = moved.operands[0]
        else:
            kept.append(moved)
    return replaced(graph, kept, instead)


def _passes_on(node: Node) -> bool:
    match node.op:
        case Identity() | ChannelShuffle(groups=1):
            return True
        case Concat():
            return len(node.operands) == 1
        case Dropout(p=p) | ChannelDropout(p=p) | DropPath(p=p):
            return p == 0.0
        case _:
            return False
