"""Tensor functions for ops without state. They read sizes at run time, so that models accept inputs of any size."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def resize_to(x: Tensor, like: Tensor, mode: str, align_corners: bool) -> Tensor:
    """Resize (N, C, H, W) to the height and width of ``like``; return ``x`` itself if they are equal."""
    size = like.shape[-2:]
    if x.shape[-2:] == size:
        return x
    return F.interpolate(x, size=size, mode=mode, align_corners=None if mode == "nearest" else align_corners)


def pool_like(x: Tensor, like: Tensor) -> Tensor:
    """Average-pool (N, C, H, W) to the height and width of ``like``; return ``x`` itself if they are equal."""
    size = like.shape[-2:]
    return x if x.shape[-2:] == size else F.adaptive_avg_pool2d(x, (size[0], size[1]))


def l2_normalize(x: Tensor, over: tuple[int, ...]) -> Tensor:
    """Divide the vectors along the axes ``over`` by max(norm, 1e-12)."""
    # 1e-12 is the epsilon of torch.nn.functional.normalize.
    return x / torch.linalg.vector_norm(x, dim=over, keepdim=True).clamp_min(1e-12)


def map_to_tokens(x: Tensor, first: Tensor | None = None) -> Tensor:
    """Flatten (N, C, H, W) row by row to tokens (N, H*W, C), preceded by the tokens ``first`` (1 or N, n, C)."""
    tokens = x.flatten(2).transpose(1, 2)
    return tokens if first is None else torch.cat([first.expand(x.shape[0], -1, -1), tokens], dim=1)


def tokens_to_map(tokens: Tensor, like: Tensor, skip: int) -> Tensor:
    """Reshape tokens (N, skip + h*w, C) without the first ``skip`` to (N, C, h, w), sized like ``like``."""
    batch, _, channels = tokens.shape
    return tokens[:, skip:].transpose(1, 2).reshape(batch, channels, like.shape[-2], like.shape[-1])


def compute_attention(qkv: Tensor, heads: int) -> Tensor:
    """Compute self-attention (N, T, 3C) -> (N, T, C). Channels hold all queries, then keys, then values."""
    batch, length, width = qkv.shape
    q, k, v = qkv.view(batch, length, 3, heads, width // (3 * heads)).permute(2, 0, 3, 1, 4).unbind(0)
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, length, width // 3)


def softmax_over_space(x: Tensor) -> Tensor:
    """Apply softmax over the positions of each channel of a map (N, C, H, W) or of tokens (N, T, C)."""
    return x.flatten(2).softmax(-1).view(x.shape) if x.dim() == 4 else x.softmax(1)
