"""Removal of ops without effect: Identity, Split into one part, Concat of one tensor, dropout with p = 0."""

from __future__ import annotations

from segdsl.ir.graph import Graph, Node
from segdsl.ops.act import Identity
from segdsl.ops.drop import ChannelDropout, Dropout, DropPath
from segdsl.ops.join import ChannelShuffle, Concat, Item, Split
from segdsl.passes.rewrite import redirect_operands, replace_nodes


def remove_identity(graph: Graph) -> Graph:
    """Return the graph without nodes that only pass on their first operand."""
    replacements: dict[str, str] = {}
    remaining: list[Node] = []
    # A Split yields its parts through Item nodes, so both go if there is a single part.
    single_splits = {node.path for node in graph.nodes if isinstance(node.op, Split) and len(node.op.sizes) == 1}
    for node in graph.nodes:
        current = redirect_operands(node, replacements)
        is_single_item = isinstance(node.op, Item) and node.operands[0] in single_splits
        if node.path in single_splits or is_single_item or _is_identity(node):
            replacements[node.path] = current.operands[0]
        else:
            remaining.append(current)
    return replace_nodes(graph, remaining, replacements)


def _is_identity(node: Node) -> bool:
    match node.op:
        case Identity() | ChannelShuffle(groups=1):
            return True
        case Concat():
            return len(node.operands) == 1
        case Dropout(p=p) | ChannelDropout(p=p) | DropPath(p=p):
            return p == 0.0
        case _:
            return False
