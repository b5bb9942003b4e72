"""The attention op."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

from segdsl.diagnostics.aliases import Aliases
from segdsl.ir.fields import PositiveInt
from segdsl.ir.graph import Op
from segdsl.ir.shape import Extent, Shape, evaluate_extent, floor_div
from segdsl.ops import fit


class Attention(Op):
    """softmax(Q K^T / sqrt(d)) V over tokens (Vaswani et al. 2017, 3.2): [B, N, 3C] -> [B, N, C].

    The channels hold all queries, then all keys, then all values; each third is split into heads of d = C / heads.
    """

    heads: Annotated[PositiveInt, Aliases("num_heads n_heads nhead")]
    """Number of independent heads; divides C."""

    def infer_shape(self, shapes: Sequence[Shape], env: Mapping[str, int]) -> Shape:
        fit.require_tokens("Attention", shapes[0])
        channels = evaluate_extent(shapes[0][2], env)
        fit.require_groups("Attention", channels, 3, "channels (queries, keys, values)")
        fit.require_groups("Attention", channels // 3, self.heads, "query channels")
        return (*shapes[0][:2], floor_div(shapes[0][2], 3))

    def count_macs(self, shapes: Sequence[Shape], out: Shape) -> Extent:
        # Two matrix products over N x N weights: Q K^T, and the weights times V.
        return 2 * out[1] * out[1] * out[2]
