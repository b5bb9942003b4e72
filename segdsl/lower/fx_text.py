"""A rewritten model as text and as JSON, for `compile --dump`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import fx


def format_fx_graph(model: fx.GraphModule) -> str:
    """Format the graph of a model as text, one line per node: `name = Conv2d(3, 8, …)(operands)  # path`."""
    lines = []
    for node in serialize_fx_graph(model):
        operands = ", ".join(node["operands"])
        match node["op"]:
            case "placeholder":
                lines.append(f"in {node['name']}")
            case "output":
                lines.append(f"out {operands}")
            case _:
                lines.append(f"{node['name']} = {node['target']}({operands})  # {node['path']}")
    return "\n".join(lines)


def serialize_fx_graph(model: fx.GraphModule) -> list[dict[str, Any]]:
    """Return the nodes of a model for JSON: name, path in the program, kind of node, target and operands."""
    return [
        {
            "name": node.name,
            "path": node.meta.get("path", node.name),
            "op": node.op,
            "target": _describe_target(model, node),
            "operands": list(_list_operands(node)),
        }
        for node in model.graph.nodes
    ]


def _describe_target(model: fx.GraphModule, node: fx.Node) -> str:
    if node.op == "call_module":
        module = model.get_submodule(str(node.target))
        return f"{type(module).__name__}({module.extra_repr()})"
    return getattr(node.target, "__name__", str(node.target))


def _list_operands(node: fx.Node) -> Iterator[str]:
    yield from map(str, node.args)
    yield from (f"{name}={value}" for name, value in node.kwargs.items())
