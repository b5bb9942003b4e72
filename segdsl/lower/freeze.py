"""Freezing of model parts: no gradients, evaluation mode, and no activations stored for a backward pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set

from torch import fx, nn

from segdsl.lower.graph import SegModule

BORDER = "unfrozen"
"""Marks the nodes that copy results of the frozen part for the trainable part."""


def freeze_parts(model: nn.Module, paths: Sequence[str]) -> None:
    """Freeze everything below ``paths`` in a model built by :func:`segdsl.lower.graph.build_module`.

    Frozen parameters have `requires_grad = False`. Frozen modules stay in evaluation mode even after `train()`: running
    statistics do not change and dropout is off. All nodes that need no gradient run first, under
    `torch.inference_mode`, so that they store nothing for a backward pass.
    """
    assert isinstance(model, SegModule)
    if not paths:
        return
    model.meta["frozen"] = (*model.freeze_paths, *paths)
    for name, parameter in model.named_parameters():
        if model.is_frozen(name):
            parameter.requires_grad_(False)
    # Applies evaluation mode to the parts that are frozen now.
    model.train(model.training)
    _move_frozen_first(model)


def _move_frozen_first(model: SegModule) -> None:
    """Move the nodes that need no gradient to the front, where the generated code runs them in inference mode."""
    graph = model.graph
    _remove_borders(graph)
    body = [node for node in graph.nodes if node.op not in ("placeholder", "output")]
    trained: set[fx.Node] = set()
    for node in body:
        if _has_trainable(model, node) or not trained.isdisjoint(node.all_input_nodes):
            trained.add(node)
    first = next((node for node in body if node in trained), None)
    before = [node for node in body if node not in trained]
    # Without a frozen module there is nothing to save, and without a trainable node no backward pass.
    if first is None or not any(node.op == "call_module" for node in before):
        return
    for node in before:
        first.prepend(node)
    borders = [border for node in before for border in _insert_borders(node, first, trained)]
    if borders:
        graph.on_generate_code(lambda earlier: lambda body: _wrap_inference_mode(body, borders[0].name))
    graph.lint()
    model.recompile()


def _remove_borders(graph: fx.Graph) -> None:
    """Undo the copies of an earlier call, which froze fewer paths."""
    for node in [node for node in graph.nodes if BORDER in node.meta]:
        node.replace_all_uses_with(node.all_input_nodes[0])
        graph.erase_node(node)


def _insert_borders(node: fx.Node, first: fx.Node, trained: Set[fx.Node]) -> Iterator[fx.Node]:
    """Copy the result of ``node`` before ``first`` if nodes that are ``trained`` use it, and yield the copy."""
    users = [user for user in node.users if user in trained or user.op == "output"]
    if not users:
        return
    # Autograd rejects inference tensors; a clone made outside inference mode is an ordinary tensor.
    with node.graph.inserting_before(first):
        border = node.graph.create_node("call_method", "clone", (node,), {}, f"{BORDER}_{node.name}")
    border.meta, border.stack_trace = {**node.meta, BORDER: True}, node.stack_trace
    for user in users:
        user.replace_input_with(node, border)
    yield border


def _has_trainable(model: nn.Module, node: fx.Node) -> bool:
    if node.op == "call_module":
        return any(p.requires_grad for p in model.get_submodule(str(node.target)).parameters())
    return node.op == "get_attr" and model.get_parameter(str(node.target)).requires_grad


def _wrap_inference_mode(body: list[str], border: str) -> list[str]:
    """Return the generated code with the lines before node ``border`` inside `with torch.inference_mode()`."""
    lines = "".join(body).split("\n")
    end = next(i for i, line in enumerate(lines) if line.startswith(f"{border} = "))
    inside = [f"    {line}" if line else line for line in lines[:end]]
    return ["\n".join(["with torch.inference_mode():", *inside, *lines[end:]])]
