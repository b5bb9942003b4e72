"""Rewrites of a trained model for inference that leave its logits unchanged up to rounding.

They work on the fx graph after the passes over the IR (:mod:`segdsl.passes`), because they need the weights.
"""

from __future__ import annotations

import copy
import operator
from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_arg

from segdsl.lower.modules import DropPath
from segdsl.lower.rewriting import Rewrite, apply_rewrites

NOISE_MODULES = (nn.Dropout, nn.Dropout2d, DropPath, nn.Identity)
LinearModule = nn.Conv2d | nn.Linear
CallCounts = Counter[Any]
"""Number of nodes that call each module, by target."""


def optimize_for_inference(
    model: fx.GraphModule, rewrites: Mapping[str, Rewrite] | None = None, until: str | None = None
) -> fx.GraphModule:
    """Return a copy of ``model`` optimized by ``rewrites`` (default: all), on the CPU in evaluation mode.

    With ``until``, it is optimized up to and including the rewrite of that name. The copy is in contiguous layout and
    has different modules; its outputs differ only by rounding.
    """
    copied: Any = copy.deepcopy(model).cpu().to(memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]
    apply_rewrites(copied, INFERENCE_REWRITES if rewrites is None else rewrites, until)
    return copied


def drop_noise(model: fx.GraphModule) -> None:
    """Remove modules that only act in training: dropout and stochastic depth."""
    for node in list(model.graph.nodes):
        if isinstance(_find_module(model, node), NOISE_MODULES):
            node.replace_all_uses_with(node.args[0])
            model.graph.erase_node(node)


def share_equal_calls(model: fx.GraphModule) -> None:
    """Merge nodes with equal operations and operands."""
    # Only valid for inference: in training, dropout noise and updates of batch statistics differ between equal nodes.
    first_nodes: dict[str, fx.Node] = {}
    for node in list(model.graph.nodes):
        if node.op in ("placeholder", "output"):
            continue
        key = repr((node.op, str(node.target), map_arg((node.args, node.kwargs), lambda operand: operand.name)))
        if key in first_nodes:
            node.replace_all_uses_with(first_nodes[key])
            model.graph.erase_node(node)
        else:
            first_nodes[key] = node


def fold_norms(model: fx.GraphModule) -> None:
    """Fold every batch norm into the convolution before it, or into the one after it if that has no padding."""
    calls = _count_calls(model)
    for node in list(model.graph.nodes):
        norm = _find_module(model, node)
        if not isinstance(norm, nn.BatchNorm2d) or norm.running_mean is None or norm.running_var is None:
            continue
        # In evaluation, a batch norm is y = factor * x + summand per channel.
        factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        summand = norm.bias - norm.running_mean * factor
        before = _find_exclusive_module(model, node.args[0], calls)
        behind = _find_exclusive_module(model, next(iter(node.users)), calls) if len(node.users) == 1 else None
        if isinstance(before, nn.Conv2d) and len(node.args[0].users) == 1:
            scale_output(before, factor, summand)
        # Padding inserts zeros after the norm, which a folded summand would wrongly shift.
        elif isinstance(behind, nn.Conv2d) and _has_no_padding(behind):
            _scale_input(behind, factor, summand)
        else:
            continue
        node.replace_all_uses_with(node.args[0])
        model.graph.erase_node(node)


def merge_chains(model: fx.GraphModule) -> None:
    """Merge consecutive linear maps: a map with a factor per channel, and a convolution with a 1x1 one after it."""
    calls = _count_calls(model)
    for node in list(model.graph.nodes):
        if node.op == "call_function" and node.target is operator.mul:
            _merge_factor(model, node, calls)
        elif isinstance(_find_module(model, node), nn.Conv2d):
            _merge_pair(model, node, calls)


# Dropout goes first, since it separates equal nodes and chains; folding norms creates the chains to merge.
INFERENCE_REWRITES: dict[str, Rewrite] = {
    "drop_noise": drop_noise,
    "share_equal_calls": share_equal_calls,
    "fold_norms": fold_norms,
    "merge_chains": merge_chains,
}
"""The rewrites by name, in order of execution."""


def scale_output(linear: LinearModule, factor: Tensor, summand: Tensor | None = None) -> None:
    """Make ``linear`` return factor * y + summand instead of y. Both are scalars or have one value per channel."""
    shape = (-1,) + (1,) * (linear.weight.dim() - 1)
    linear.weight = nn.Parameter(linear.weight * factor.reshape(shape))
    bias = None if linear.bias is None else linear.bias * factor.flatten()
    if summand is not None:
        bias = summand if bias is None else bias + summand
    if bias is not None:
        linear.bias = nn.Parameter(bias.clone())


def _scale_input(conv: nn.Conv2d, factor: Tensor, summand: Tensor) -> None:
    """Make ``conv`` accept x instead of factor * x + summand."""
    # conv(factor * x + summand) = (W * factor) x + sum(W * summand) + b, where sums run over inputs of each group.
    out = conv.weight.shape[0]
    per_group = (conv.groups, 1, conv.in_channels // conv.groups, 1, 1)
    grouped = conv.weight.view(conv.groups, out // conv.groups, *conv.weight.shape[1:])
    added = (grouped * summand.view(per_group)).sum((2, 3, 4)).flatten()
    conv.weight = nn.Parameter((grouped * factor.view(per_group)).view_as(conv.weight))
    conv.bias = nn.Parameter(added if conv.bias is None else conv.bias + added)


def _merge_factor(model: fx.GraphModule, node: fx.Node, calls: CallCounts) -> None:
    # The factor may be either operand of the product.
    for position in (0, 1):
        before: Any = node.args[position]
        linear = _find_exclusive_module(model, before, calls)
        if not isinstance(linear, LinearModule) or len(before.users) != 1:
            continue
        factor = _find_channel_factor(model, node.args[1 - position], -1 if isinstance(linear, nn.Linear) else -3)
        if factor is not None and factor.numel() in (1, linear.weight.shape[0]):
            scale_output(linear, factor)
            node.replace_all_uses_with(before)
            model.graph.erase_node(node)
            return


def _find_channel_factor(model: fx.GraphModule, operand: Any, axis: int) -> Tensor | None:
    """Return the value of a constant operand per channel, or a single value; None if it is not constant.

    ``axis`` is the channel axis, counted from the end. Constants are literals and parameters, possibly reshaped.
    """
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


def _merge_pair(model: fx.GraphModule, node: fx.Node, calls: CallCounts) -> None:
    """Merge the 1x1 convolution ``node`` into the one before it."""
    before: Any = node.args[0]
    first, second = _find_exclusive_module(model, before, calls), _find_exclusive_module(model, node, calls)
    if not isinstance(first, nn.Conv2d) or not isinstance(second, nn.Conv2d) or len(before.users) != 1:
        return
    plain = second.kernel_size == (1, 1) and second.stride == (1, 1) and _has_no_padding(second)
    if not plain or first.groups != 1 or second.groups != 1:
        return
    # A wide second convolution after a narrow one would make the merged weights larger than both.
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


def _find_module(model: fx.GraphModule, node: Any) -> nn.Module | None:
    is_call = isinstance(node, fx.Node) and node.op == "call_module"
    return model.get_submodule(str(node.target)) if is_call else None


def _count_calls(model: fx.GraphModule) -> CallCounts:
    return Counter(node.target for node in model.graph.nodes if node.op == "call_module")


def _find_exclusive_module(model: fx.GraphModule, node: Any, calls: CallCounts) -> nn.Module | None:
    """Return the module of a node if no other node calls it, so that it may be modified; else None."""
    module = _find_module(model, node)
    return module if module is not None and calls[node.target] == 1 else None


def _has_no_padding(conv: nn.Conv2d) -> bool:
    return conv.padding == (0, 0)
