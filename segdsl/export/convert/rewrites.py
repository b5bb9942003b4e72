"""Rewrites of ops that a runtime lacks or runs slowly: adaptive pooling at fixed sizes, and channel shuffles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional as F

from segdsl.ir.shape import Shape, evaluate_shape
from segdsl.lower.functional import pool_like

ADAPTIVE_POOLS = (pool_like, F.adaptive_avg_pool2d)


def rewrite_for_onnx(
    model: fx.GraphModule, shapes: Mapping[str, Shape], env: Mapping[str, int], has_dynamic_size: bool
) -> None:
    """Replace the ops of ``model`` that ONNX lacks, in place.

    ``shapes`` are those of the model's tensors by path, ``env`` the values of their variables. Adaptive pools are kept
    if ``has_dynamic_size``: their windows depend on the size of the input.
    """
    for node in list(model.graph.nodes):
        if node.target is torch.channel_shuffle:
            node.target = shuffle_channels
        elif node.target in ADAPTIVE_POOLS and not has_dynamic_size:
            source, result = _resolve_shapes(node, shapes, env)
            _replace_node(model, node, _insert_matrix_pool(model, node, source, result))
    model.graph.eliminate_dead_code()
    model.recompile()


def rewrite_even_pools(model: fx.GraphModule, shapes: Mapping[str, Shape], env: Mapping[str, int]) -> None:
    """Replace adaptive pools whose windows all have the same size by average pools, in place."""
    # OpenVINO runs adaptive pools on the CPU without vector instructions and only in single precision; in Lite-HRNet
    # they would take a fifth of the time.
    for node in list(model.graph.nodes):
        if node.target in ADAPTIVE_POOLS:
            source, result = _resolve_shapes(node, shapes, env)
            if all(before % after == 0 for before, after in zip(source[2:], result[2:], strict=True)):
                _replace_node(model, node, _insert_average_pool(model, node, source, result))
    model.graph.eliminate_dead_code()
    model.recompile()


def shuffle_channels(x: Tensor, groups: int) -> Tensor:
    """Interleave the channels of ``groups`` groups of ``x`` (N, C, H, W)."""
    batch, channels, height, width = x.shape
    return x.view(batch, groups, channels // groups, height, width).transpose(1, 2).reshape(x.shape)


def _resolve_shapes(node: fx.Node, shapes: Mapping[str, Shape], env: Mapping[str, int]) -> tuple[tuple[int, ...], ...]:
    """Return the shapes of the input and of the output of a node."""
    source: Any = node.args[0]
    return evaluate_shape(shapes[source.meta["path"]], env), evaluate_shape(shapes[node.meta["path"]], env)


def _replace_node(model: fx.GraphModule, node: fx.Node, replacement: fx.Node) -> None:
    # The path of the node in the program lives in its meta: names in the exported file come from it.
    replacement.meta = dict(node.meta)
    node.replace_all_uses_with(replacement)
    model.graph.erase_node(node)


def _insert_average_pool(
    model: fx.GraphModule, node: fx.Node, input_shape: tuple[int, ...], output_shape: tuple[int, ...]
) -> fx.Node:
    kernel = (input_shape[2] // output_shape[2], input_shape[3] // output_shape[3])
    with model.graph.inserting_before(node):
        return model.graph.call_function(F.avg_pool2d, (node.args[0], kernel, kernel))


def _insert_matrix_pool(
    model: fx.GraphModule, node: fx.Node, input_shape: tuple[int, ...], output_shape: tuple[int, ...]
) -> fx.Node:
    for side, axis in (("rows", 2), ("columns", 3)):
        model.register_buffer(f"{node.name}_{side}", build_averaging_matrix(input_shape[axis], output_shape[axis]))
    with model.graph.inserting_before(node):
        rows = model.graph.get_attr(f"{node.name}_rows")
        columns = model.graph.get_attr(f"{node.name}_columns")
        return model.graph.call_function(pool_by_matrices, (node.args[0], rows, columns))


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
