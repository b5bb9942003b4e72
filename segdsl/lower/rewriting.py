"""Rewriting of fx graphs: tables of plain functions that change a model in place, as passes change the IR.

Rewrites find the path of a node in the program in ``node.meta["path"]``, and the extents of its tensor for one image of
`data.input_size` in ``node.meta["shape"]``. A model that accepts images of any size has no shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import fx

Rewrite = Callable[[fx.GraphModule], None]


def apply_rewrites(model: fx.GraphModule, rewrites: Mapping[str, Rewrite], until: str | None = None) -> None:
    """Apply all rewrites to ``model`` in order, or those up to and including ``until``."""
    with torch.no_grad():
        for name, rewrite in rewrites.items():
            rewrite(model)
            model.graph.eliminate_dead_code()
            if name == until:
                break
    model.delete_all_unused_submodules()
    model.graph.lint()
    model.recompile()


def forget_shapes(model: fx.GraphModule) -> None:
    """Mark that ``model`` accepts images of any size: what depends on one size must not be rewritten."""
    for node in model.graph.nodes:
        node.meta.pop("shape", None)


def replace_node(model: fx.GraphModule, node: fx.Node, replacement: fx.Node) -> None:
    """Let all users of ``node`` use ``replacement``, and remove it."""
    # The path of the node in the program lives in its meta: names in an exported file come from it.
    replacement.meta = dict(node.meta)
    node.replace_all_uses_with(replacement)
    model.graph.erase_node(node)
