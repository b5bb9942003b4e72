"""Tensor functions behind the ops without state. Sizes are read when the model runs, so that any size works."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def resize_to(x: Tensor, like: Tensor, mode: str, align_corners: bool) -> Tensor:
    """(N, C, H, W) -> (N, C, h, w) of ``like``; the input itself where the sizes are equal."""
    size = like.shape[-2:]
    if x.shape[-2:] == size:
        return x
    return F.interpolate(x, size=size, mode=mode, align_corners=None if mode == "nearest" else align_corners)


def pool_like(x: Tensor, like: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, C, h, w) of ``like``; the input itself where the sizes are equal."""
    size = like.shape[-2:]
    return x if x.shape[-2:] == size else F.adaptive_avg_pool2d(x, (size[0], size[1]))


def l2_normalize(x: Tensor, over: tuple[int, ...]) -> Tensor:
    """v / max(||v||, 1e-12) for the vectors along the axes ``over``."""
    return x / torch.linalg.vector_norm(x, dim=over, keepdim=True).clamp_min(1e-12)


def map_to_tokens(x: Tensor, first: Tensor | None = None) -> Tensor:
    """(N, C, H, W) -> (N, H*W, C), row by row, after the tokens ``first`` (1 or N, n, C)."""
    tokens = x.flatten(2).transpose(1, 2)
    return tokens if first is None else torch.cat([first.expand(x.shape[0], -1, -1), tokens], dim=1)


def tokens_to_map(tokens: Tensor, like: Tensor, skip: int) -> Tensor:
    """(N, skip + h*w, C) -> (N, C, h, w) with the height and width of ``like``."""
    batch, _, channels = tokens.shape
    return tokens[:, skip:].transpose(1, 2).reshape(batch, channels, like.shape[-2], like.shape[-1])


def attention(qkv: Tensor, heads: int) -> Tensor:
    """(N, T, 3C) -> (N, T, C): all queries, all keys, all values, each cut into ``heads``."""
    batch, length, width = qkv.shape
    q, k, v = qkv.view(batch, length, 3, heads, width // (3 * heads)).permute(2, 0, 3, 1, 4).unbind(0)
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, length, width // 3)


def softmax_over_space(x: Tensor) -> Tensor:
    """Sums to 1 over the positions of each channel: of a map (N, C, H, W) or of tokens (N, T, C)."""
    return x.flatten(2).softmax(-1).view(x.shape) if x.dim() == 4 else x.softmax(1)
