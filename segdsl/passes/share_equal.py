"""Computes once what is written twice: nodes of the same op, operands and module."""

from __future__ import annotations

from collections import defaultdict

from segdsl.ir.graph import Graph, Node
from segdsl.ops.drop import Noise
from segdsl.ops.norm import BatchNorm
from segdsl.passes.rewrite import redirected, replaced

Group = list[Node]


def share_equal(graph: Graph) -> Graph:
    """The graph in which the first of several equal nodes stands for all. Noise is never equal to other noise.

    A batch norm that stands for n counts its batch n times (`updates`), so that its running statistics stay the same;
    this needs all uses of its module to be equal, and other norms are left as they are.
    """
    alone: set[str] = set()
    while True:
        groups, instead = _equal(graph, alone)
        mixed = _used_differently(groups) - alone
        if not mixed:
            return replaced(graph, [_merged(group) for group in groups], instead)
        alone |= mixed


def _equal(graph: Graph, alone: set[str]) -> tuple[list[Group], dict[str, str]]:
    """The nodes in groups of equals, in order, and for every node but the first of a group that first one's path."""
    groups: list[Group] = []
    known: dict[tuple[object, ...], Group] = {}
    instead: dict[str, str] = {}
    for node in (redirected(node, instead) for node in graph.nodes):
        key = (node.op, node.operands, node.module)
        if isinstance(node.op, Noise) or node.module in alone or key not in known:
            known[key] = [node]
            groups.append(known[key])
        else:
            known[key].append(node)
            instead[node.path] = known[key][0].path
    return groups, instead


def _used_differently(groups: list[Group]) -> set[str]:
    """The modules of batch norms that are applied to several tensors, and to one of them more than once."""
    uses: dict[str, list[Group]] = defaultdict(list)
    for group in groups:
        if isinstance(group[0].op, BatchNorm):
            uses[group[0].module or group[0].path].append(group)
    return {module for module, found in uses.items() if len(found) > 1 and any(len(group) > 1 for group in found)}


def _merged(group: Group) -> Node:
    first = group[0]
    updates = sum(node.op.updates for node in group if isinstance(node.op, BatchNorm))
    if len(group) == 1 or not updates:
        return first
    return first.model_copy(update={"op": first.op.model_copy(update={"updates": updates})})
