"""What a built model needs no longer once it is trained: rewrites of its fx graph, which end in the same logits.

They follow the passes over the IR (:mod:`segdsl.passes`), and need the weights.
"""

from __future__ import annotations

import copy
import operator
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_arg

from segdsl.lower.modules import DropPath

NOISE = (nn.Dropout, nn.Dropout2d, DropPath, nn.Identity)
Rewrite = Callable[[fx.GraphModule], None]
Linear = nn.Conv2d | nn.Linear
Calls = Counter[Any]
"""How many nodes call each module."""


def for_inference(model: fx.GraphModule, rewrites: Mapping[str, Rewrite] | None = None) -> fx.GraphModule:
    """A copy of ``model`` on the CPU, in evaluation mode and contiguous layout, after ``rewrites``, by default all.

    The copy has other modules than the model; what it computes differs by rounding alone.
    """
    copied: Any = copy.deepcopy(model).cpu().to(memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]
    with torch.no_grad():
        for rewrite in (REWRITES if rewrites is None else rewrites).values():
            rewrite(copied)
            copied.graph.eliminate_dead_code()
    copied.delete_all_unused_submodules()
    copied.graph.lint()
    copied.recompile()
    return copied


def drop_noise(model: fx.GraphModule) -> None:
    """Drops what acts in training alone: dropout, and stochastic depth."""
    for node in list(model.graph.nodes):
        if isinstance(_module(model, node), NOISE):
            node.replace_all_uses_with(node.args[0])
            model.graph.erase_node(node)


def share_equal(model: fx.GraphModule) -> None:
    """Computes once what is written twice: in training noise and batch statistics keep equal nodes apart."""
    known: dict[str, fx.Node] = {}
    for node in list(model.graph.nodes):
        if node.op in ("placeholder", "output"):
            continue
        key = repr((node.op, str(node.target), map_arg((node.args, node.kwargs), lambda operand: operand.name)))
        if key in known:
            node.replace_all_uses_with(known[key])
            model.graph.erase_node(node)
        else:
            known[key] = node


def fold_norms(model: fx.GraphModule) -> None:
    """Puts every batch norm into the convolution before it, or into the unpadded one behind it."""
    calls = _calls(model)
    for node in list(model.graph.nodes):
        norm = _module(model, node)
        if not isinstance(norm, nn.BatchNorm2d) or norm.running_mean is None or norm.running_var is None:
            continue
        factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        summand = norm.bias - norm.running_mean * factor
        before = _alone(model, node.args[0], calls)
        behind = _alone(model, next(iter(node.users)), calls) if len(node.users) == 1 else None
        if isinstance(before, nn.Conv2d) and len(node.args[0].users) == 1:
            scale_result(before, factor, summand)
        elif isinstance(behind, nn.Conv2d) and _unpadded(behind):
            _scale_input(behind, factor, summand)
        else:
            continue
        node.replace_all_uses_with(node.args[0])
        model.graph.erase_node(node)


def merge_chains(model: fx.GraphModule) -> None:
    """Makes one map of two linear ones in a row: a map and its factor by channel, and a 1x1 convolution behind another
    where that costs no more."""
    calls = _calls(model)
    for node in list(model.graph.nodes):
        if node.op == "call_function" and node.target is operator.mul:
            _merge_factor(model, node, calls)
        elif isinstance(_module(model, node), nn.Conv2d):
            _merge_pair(model, node, calls)


REWRITES: dict[str, Rewrite] = {
    "drop_noise": drop_noise,
    "share_equal": share_equal,
    "fold_norms": fold_norms,
    "merge_chains": merge_chains,
}
"""The rewrites by name, in the order in which they run."""


def scale_result(linear: Linear, factor: Tensor, summand: Tensor | None = None) -> None:
    """Makes ``linear`` give factor * y + summand in place of y; both have one number, or one for each channel."""
    shape = (-1,) + (1,) * (linear.weight.dim() - 1)
    linear.weight = nn.Parameter(linear.weight * factor.reshape(shape))
    bias = None if linear.bias is None else linear.bias * factor.flatten()
    if summand is not None:
        bias = summand if bias is None else bias + summand
    if bias is not None:
        linear.bias = nn.Parameter(bias.clone())


def _scale_input(conv: nn.Conv2d, factor: Tensor, summand: Tensor) -> None:
    """Makes ``conv`` take x in place of factor * x + summand."""
    out = conv.weight.shape[0]
    per_group = (conv.groups, 1, conv.in_channels // conv.groups, 1, 1)
    grouped = conv.weight.view(conv.groups, out // conv.groups, *conv.weight.shape[1:])
    added = (grouped * summand.view(per_group)).sum((2, 3, 4)).flatten()
    conv.weight = nn.Parameter((grouped * factor.view(per_group)).view_as(conv.weight))
    conv.bias = nn.Parameter(added if conv.bias is None else conv.bias + added)


def _merge_factor(model: fx.GraphModule, node: fx.Node, calls: Calls) -> None:
    for place in (0, 1):
        before: Any = node.args[place]
        linear = _alone(model, before, calls)
        if not isinstance(linear, Linear) or len(before.users) != 1:
            continue
        factor = _factor(model, node.args[1 - place], -1 if isinstance(linear, nn.Linear) else -3)
        if factor is not None and factor.numel() in (1, linear.weight.shape[0]):
            scale_result(linear, factor)
            node.replace_all_uses_with(before)
            model.graph.erase_node(node)
            return


def _factor(model: fx.GraphModule, operand: Any, axis: int) -> Tensor | None:
    """The numbers along the axis of the channels that an operand stands for, or a single one: a literal, or a
    parameter, which may be given another shape."""
    if isinstance(operand, (int, float)):
        return torch.tensor([float(operand)])
    shape: tuple[int, ...] = ()
    if isinstance(operand, fx.Node) and operand.op == "call_method" and operand.target == "view":
        shape, operand = tuple(operand.args[1:]), operand.args[0]  # type: ignore[assignment]
    if not isinstance(operand, fx.Node) or operand.op != "get_attr":
        return None
    owner, _, name = str(operand.target).rpartition(".")
    value = getattr(model.get_submodule(owner), name).detach()
    value = value.view(shape) if shape else value
    along = value.dim() >= -axis and value.shape[axis] == value.numel()
    return value.flatten() if along or value.numel() == 1 else None


def _merge_pair(model: fx.GraphModule, node: fx.Node, calls: Calls) -> None:
    """Puts the 1x1 convolution ``node`` into the one before it."""
    before: Any = node.args[0]
    first, second = _alone(model, before, calls), _alone(model, node, calls)
    if not isinstance(first, nn.Conv2d) or not isinstance(second, nn.Conv2d) or len(before.users) != 1:
        return
    plain = second.kernel_size == (1, 1) and second.stride == (1, 1) and _unpadded(second)
    if not plain or first.groups != 1 or second.groups != 1:
        return
    outputs = second.weight.shape[0]
    if outputs * first.weight[0].numel() > first.weight.numel() + second.weight.numel():
        return
    mixing = second.weight[:, :, 0, 0]
    bias = second.bias
    if first.bias is not None:
        bias = mixing @ first.bias if bias is None else bias + mixing @ first.bias
    first.weight = nn.Parameter(torch.einsum("om,mikl->oikl", mixing, first.weight))
    first.bias = None if bias is None else nn.Parameter(bias.clone())
    first.out_channels = outputs
    node.replace_all_uses_with(before)
    model.graph.erase_node(node)


def _module(model: fx.GraphModule, node: Any) -> nn.Module | None:
    called = isinstance(node, fx.Node) and node.op == "call_module"
    return model.get_submodule(str(node.target)) if called else None


def _calls(model: fx.GraphModule) -> Calls:
    return Counter(node.target for node in model.graph.nodes if node.op == "call_module")


def _alone(model: fx.GraphModule, node: Any, calls: Calls) -> nn.Module | None:
    """The module of a node that no other node calls, so that it may be changed."""
    module = _module(model, node)
    return module if module is not None and calls[node.target] == 1 else None


def _unpadded(conv: nn.Conv2d) -> bool:
    return conv.padding == (0, 0)
