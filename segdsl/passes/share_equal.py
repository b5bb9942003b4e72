"""Common subexpression elimination: nodes with the same op, operands and module are computed once."""

from __future__ import annotations

from collections import defaultdict

from segdsl.ir.graph import Graph, Node
from segdsl.ops.norm import BatchNorm
from segdsl.passes.rewrite import redirect_operands, replace_nodes

Group = list[Node]


def share_equal(graph: Graph) -> Graph:
    """Return the graph with each group of equal nodes replaced by its first node."""
    # A batch norm that replaces n equal ones counts its batch n times (`updates`), so that its running statistics do
    # not change. That works only if all uses of its module are equal; modules with mixed uses are excluded, and since
    # this can make other nodes unequal, the grouping starts again.
    excluded: set[str] = set()
    while True:
        groups, replacements = _group_equal_nodes(graph, excluded)
        mixed = _find_mixed_modules(groups) - excluded
        if not mixed:
            return replace_nodes(graph, [_merge_group(group) for group in groups], replacements)
        excluded |= mixed


def _group_equal_nodes(graph: Graph, excluded_modules: set[str]) -> tuple[list[Group], dict[str, str]]:
    """Return the groups of equal nodes in order, and a map from every removed node to the first of its group."""
    groups: list[Group] = []
    by_key: dict[tuple[object, ...], Group] = {}
    replacements: dict[str, str] = {}
    for node in (redirect_operands(node, replacements) for node in graph.nodes):
        key = (node.op, node.operands, node.module)
        # Two applications of dropout draw different random numbers, so noise is never shared.
        if node.op.is_random or node.module in excluded_modules or key not in by_key:
            by_key[key] = [node]
            groups.append(by_key[key])
        else:
            by_key[key].append(node)
            replacements[node.path] = by_key[key][0].path
    return groups, replacements


def _find_mixed_modules(groups: list[Group]) -> set[str]:
    """Return the modules of batch norms that are applied to several tensors, and to one of them repeatedly."""
    uses: dict[str, list[Group]] = defaultdict(list)
    for group in groups:
        if isinstance(group[0].op, BatchNorm):
            uses[group[0].module or group[0].path].append(group)
    return {module for module, found in uses.items() if len(found) > 1 and any(len(group) > 1 for group in found)}


def _merge_group(group: Group) -> Node:
    first = group[0]
    updates = sum(node.op.updates for node in group if isinstance(node.op, BatchNorm))
    if len(group) == 1 or not updates:
        return first
    return first.model_copy(update={"op": first.op.model_copy(update={"updates": updates})})
