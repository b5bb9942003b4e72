"""Rewrites of ops that a runtime lacks or runs slowly: adaptive pooling at fixed sizes, norms and channel shuffles."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from segdsl.lower.functional import pool_like
from segdsl.lower.rewriting import Rewrite, replace_node

ADAPTIVE_POOLS = (pool_like, F.adaptive_avg_pool2d)


def pool_equal_windows(model: fx.GraphModule) -> None:
    """Replace adaptive pools whose windows all have the same size by average pools."""
    # OpenVINO runs adaptive pools on the CPU without vector instructions and only in single precision; in Lite-HRNet
    # they would take a fifth of the time.
    for node, before, after in _list_sized_pools(model):
        if all(source % target == 0 for source, target in zip(before, after, strict=True)):
            kernel = (before[0] // after[0], before[1] // after[1])
            with model.graph.inserting_before(node):
                pool = model.graph.call_function(F.avg_pool2d, (node.args[0], kernel, kernel))
            replace_node(model, node, pool)


def split_group_norms(model: fx.GraphModule) -> None:
    """Replace group norms by layer norms of each group."""
    for node in model.graph.nodes:
        module = model.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, nn.GroupNorm):
            model.set_submodule(str(node.target), LayerNormGroupNorm(module, "shape" not in node.meta))


EXPORT_REWRITES: dict[str, Rewrite] = {
    "pool_equal_windows": pool_equal_windows,
    "split_group_norms": split_group_norms,
}
"""The rewrites for every format by name, in order of execution; they follow those for inference."""


def expand_shuffles(model: fx.GraphModule) -> None:
    """Replace channel shuffles, which ONNX lacks, by a transposition."""
    for node in model.graph.nodes:
        if node.target is torch.channel_shuffle:
            node.target = shuffle_channels


def pool_with_matrices(model: fx.GraphModule) -> None:
    """Replace adaptive pools, which ONNX lacks, by two matrix products."""
    # Only at a fixed size: the windows of a pool depend on the size of its input.
    for node, before, after in _list_sized_pools(model):
        for side, source, target in zip(("rows", "columns"), before, after, strict=True):
            model.register_buffer(f"{node.name}_{side}", build_averaging_matrix(source, target))
        with model.graph.inserting_before(node):
            rows = model.graph.get_attr(f"{node.name}_rows")
            columns = model.graph.get_attr(f"{node.name}_columns")
            pool = model.graph.call_function(pool_by_matrices, (node.args[0], rows, columns))
        replace_node(model, node, pool)


ONNX_REWRITES: dict[str, Rewrite] = {
    "expand_shuffles": expand_shuffles,
    "pool_with_matrices": pool_with_matrices,
}
"""The rewrites for ONNX by name, in order of execution; they follow those for every format."""


def _list_sized_pools(model: fx.GraphModule) -> list[tuple[fx.Node, tuple[int, ...], tuple[int, ...]]]:
    """Return the adaptive pools between tensors of known shapes, with height and width before and after."""
    pools: list[tuple[fx.Node, tuple[int, ...], tuple[int, ...]]] = []
    for node in model.graph.nodes:
        source: Any = node.args[0] if node.target in ADAPTIVE_POOLS else None
        if source is not None and "shape" in source.meta and "shape" in node.meta:
            pools.append((node, source.meta["shape"][2:], node.meta["shape"][2:]))
    return pools


def shuffle_channels(x: Tensor, groups: int) -> Tensor:
    """Interleave the channels of ``groups`` groups of ``x`` (N, C, H, W)."""
    batch, channels, height, width = x.shape
    return x.view(batch, groups, channels // groups, height, width).transpose(1, 2).reshape(x.shape)


class LayerNormGroupNorm(nn.Module):
    """Group normalization as a layer norm of each group, followed by a scale and an offset for each channel."""

    # OpenVINO 2026.4 crashes in single precision when it compiles a `GroupNormalization` whose result is added to that
    # of another one on small maps, as in SegNeXt's head below 512x512. This form compiles and is as fast.

    def __init__(self, norm: nn.GroupNorm, has_dynamic_size: bool = False) -> None:
        super().__init__()
        self.groups, self.eps, self.has_dynamic_size = norm.num_groups, norm.eps, has_dynamic_size
        self.weight, self.bias = norm.weight, norm.bias

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        groups = x.reshape(batch, self.groups, -1)
        if self.has_dynamic_size:
            # A layer norm would fix the number of values of the traced size in the file.
            centered = groups - groups.mean(-1, keepdim=True)
            normalized = centered / torch.sqrt((centered * centered).mean(-1, keepdim=True) + self.eps)
        else:
            normalized = F.layer_norm(groups, (channels // self.groups * height * width,), eps=self.eps)
        return normalized.view(x.shape) * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)


def pool_by_matrices(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Pool (N, C, H, W) to (N, C, h, w) with averaging matrices for ``rows`` (h, H) and ``columns`` (w, W)."""
    return rows @ x @ columns.t()


def build_averaging_matrix(input_length: int, output_length: int) -> Tensor:
    """Return the matrix (output_length, input_length) whose rows average the windows of an adaptive pool."""
    matrix = torch.zeros(output_length, input_length)
    for k in range(output_length):
        # Window k of PyTorch's adaptive pools: from floor(k n / m) to ceil((k + 1) n / m).
        first, last = k * input_length // output_length, -(-(k + 1) * input_length // output_length)
        matrix[k, first:last] = 1 / (last - first)
    return matrix
