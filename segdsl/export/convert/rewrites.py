"""What a runtime has no op for, or a slow one, by ops that it has: adaptive pooling of fixed sizes, and the shuffle of
channels."""

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
    """Replaces in ``model``, whose tensors have ``shapes`` by path, what ONNX lacks; pools are left where sizes are
    ``free``."""
    for node in list(model.graph.nodes):
        if node.target is torch.channel_shuffle:
            node.target = shuffled
        elif node.target in POOLS and not free:
            given, wanted = _sizes(node, shapes, env)
            _replace(model, node, _products(model, node, given, wanted))
    model.graph.eliminate_dead_code()
    model.recompile()


def pool_windows(model: fx.GraphModule, shapes: Mapping[str, Shape], env: Mapping[str, int]) -> None:
    """Replaces adaptive pools whose cells cover equal windows, of one size each, by pools over them.

    OpenVINO computes an adaptive one on a CPU without vectors, and in single precision alone: a fifth of the time of
    Lite-HRNet.
    """
    for node in list(model.graph.nodes):
        if node.target in POOLS:
            given, wanted = _sizes(node, shapes, env)
            if all(was % now == 0 for was, now in zip(given[2:], wanted[2:], strict=True)):
                _replace(model, node, _windows(model, node, given, wanted))
    model.graph.eliminate_dead_code()
    model.recompile()


def shuffled(x: Tensor, groups: int) -> Tensor:
    """(N, C, H, W) with the channels of the groups by turns."""
    batch, channels, height, width = x.shape
    return x.view(batch, groups, channels // groups, height, width).transpose(1, 2).reshape(x.shape)


def _sizes(node: fx.Node, shapes: Mapping[str, Shape], env: Mapping[str, int]) -> tuple[tuple[int, ...], ...]:
    """The shapes of what goes into a node, and of what it gives."""
    source: Any = node.args[0]
    return shape_at(shapes[source.meta["path"]], env), shape_at(shapes[node.meta["path"]], env)


def _replace(model: fx.GraphModule, node: fx.Node, replaced: fx.Node) -> None:
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
    """(N, C, H, W) -> (N, C, h, w) with the means over the rows (h, H) and columns (w, W)."""
    return rows @ x @ columns.t()


def means(given: int, wanted: int) -> Tensor:
    """The matrix (wanted, given) whose rows average the windows of an adaptive pool."""
    matrix = torch.zeros(wanted, given)
    for k in range(wanted):
        first, last = k * given // wanted, -(-(k + 1) * given // wanted)
        matrix[k, first:last] = 1 / (last - first)
    return matrix
