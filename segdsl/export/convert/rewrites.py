"""Rewrites of ops that a runtime lacks or runs slowly: adaptive pooling at fixed sizes, and channel shuffles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional as F

from segdsl.ir.shape import Shape, shape_at
from segdsl.lower.functional import pool_like

POOLS = (pool_like, F.adaptive_avg_pool2d)


def express(model: fx.GraphModule, shapes: Mapping[str, Shape], env: Mapping[str, int], free: bool) -> None:
    """Replace the ops of ``model`` that ONNX lacks, in place.

    ``shapes`` are those of the model's tensors by path, ``env`` the values of their variables. Adaptive pools are kept
    if ``has_dynamic_size``: their windows depend on the size of the input.
    """
    for node in list(model.graph.nodes):
        if node.target is torch.channel_shuffle:
            node.target = shuffled
        elif node.target in POOLS and not free:
            source, result = _sizes(node, shapes, env)
            _replace(model, node, _products(model, node, source, result))
    model.graph.eliminate_dead_code()
    model.recompile()


def pool_windows(model: fx.GraphModule, shapes: Mapping[str, Shape], env: Mapping[str, int]) -> None:
    """Replace adaptive pools whose windows all have the same size by average pools, in place."""
    # OpenVINO runs adaptive pools on the CPU without vector instructions and only in single precision; in Lite-HRNet
    # they would take a fifth of the time.
    for node in list(model.graph.nodes):
        if node.target in POOLS:
            source, result = _sizes(node, shapes, env)
            if all(before % after == 0 for before, after in zip(source[2:], result[2:], strict=True)):
                _replace(model, node, _windows(model, node, source, result))
    model.graph.eliminate_dead_code()
    model.recompile()


def shuffled(x: Tensor, groups: int) -> Tensor:
    """Interleave the channels of ``groups`` groups of ``x`` (N, C, H, W)."""
    batch, channels, height, width = x.shape
    return x.view(batch, groups, channels // groups, height, width).transpose(1, 2).reshape(x.shape)


def _sizes(node: fx.Node, shapes: Mapping[str, Shape], env: Mapping[str, int]) -> tuple[tuple[int, ...], ...]:
    """Return the shapes of the input and of the output of a node."""
    source: Any = node.args[0]
    return shape_at(shapes[source.meta["path"]], env), shape_at(shapes[node.meta["path"]], env)


def _replace(model: fx.GraphModule, node: fx.Node, replaced: fx.Node) -> None:
    # The path of the node in the program lives in its meta: names in the exported file come from it.
    replaced.meta = dict(node.meta)
    node.replace_all_uses_with(replaced)
    model.graph.erase_node(node)


def _windows(model: fx.GraphModule, node: fx.Node, given: tuple[int, ...], wanted: tuple[int, ...]) -> fx.Node:
    kernel = (given[2] // wanted[2], given[3] // wanted[3])
    with model.graph.inserting_before(node):
        return model.graph.call_function(F.avg_pool2d, (node.args[0], kernel, kernel))


def _products(model: fx.GraphModule, node: fx.Node, given: tuple[int, ...], wanted: tuple[int, ...]) -> fx.Node:
    for side, axis in (("rows", 2), ("columns", 3)):
        model.register_buffer(f"{node.name}_{side}", means(given[axis], wanted[axis]))
    with model.graph.inserting_before(node):
        rows = model.graph.get_attr(f"{node.name}_rows")
        columns = model.graph.get_attr(f"{node.name}_columns")
        return model.graph.call_function(pooled, (node.args[0], rows, columns))


def pooled(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Pool (N, C, H, W) to (N, C, h, w) with averaging matrices for ``rows`` (h, H) and ``columns`` (w, W)."""
    return rows @ x @ columns.t()


def means(given: int, wanted: int) -> Tensor:
    """Return the matrix (output_length, input_length) whose rows average the windows of an adaptive pool."""
    matrix = torch.zeros(wanted, given)
    for k in range(wanted):
        # Window k of PyTorch's adaptive pools: from floor(k n / m) to ceil((k + 1) n / m).
        first, last = k * given // wanted, -(-(k + 1) * given // wanted)
        matrix[k, first:last] = 1 / (last - first)
    return matrix
