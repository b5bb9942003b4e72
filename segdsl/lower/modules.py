"""Torch modules and functions for the ops. A test checks that the table covers every op."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Union

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segdsl.ir.graph import Initializer, Op
from segdsl.lower import functional
from segdsl.ops import act, attention, conv, drop, factor, join, norm, parameter, pool, resize, scalar, tokens

Sizes = Sequence[tuple[int, ...]]


@dataclass(frozen=True)
class Call:
    """A call ``function(*leading_args, *operands, *trailing_args, **options)``.

    ``takes_list`` passes the operands as one list; ``views`` reshapes operands (by position) first.
    """

    function: Callable[..., Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    leading_args: tuple[Any, ...] = ()
    trailing_args: tuple[Any, ...] = ()
    takes_list: bool = False
    views: Mapping[int, tuple[int, ...]] = field(default_factory=dict)


TorchOp = Union[nn.Module, nn.Parameter, Call]


class KaimingConv2d(nn.Conv2d):
    """A convolution with Kaiming normal initialization (fan-out, ReLU gain) and zero bias."""

    def reset_parameters(self) -> None:
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class LayerNorm(nn.LayerNorm):
    """Layer normalization over the channels of maps (N, C, H, W) or tokens (N, T, C)."""

    def forward(self, input: Tensor) -> Tensor:
        if input.dim() == 4:
            return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return super().forward(input)


class RepeatedBatchNorm(nn.BatchNorm2d):
    """Batch normalization that stands for ``updates`` applications to the same input.

    Updating the running statistics n times with ``momentum`` equals one update with 1 - (1 - momentum)^n.
    """

    def __init__(self, channels: int, eps: float, momentum: float, updates: int) -> None:
        super().__init__(channels, eps=eps, momentum=1.0 - (1.0 - momentum) ** updates)
        self.once, self.updates = momentum, updates

    def forward(self, input: Tensor) -> Tensor:
        if self.training and self.num_batches_tracked is not None:
            # The forward pass below counts one batch itself.
            self.num_batches_tracked.add_(self.updates - 1)
        return super().forward(input)


class DropPath(nn.Module):
    """Stochastic depth: in training, zero whole samples with probability ``p`` and divide the others by 1 - p."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0.0:
            return x
        keep = x.new_empty((x.shape[0],) + (1,) * (x.dim() - 1)).bernoulli_(1.0 - self.p)
        return x * keep.div_(1.0 - self.p)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class NMF(nn.Module):
    """Non-negative matrix factorization of the matrix (C, H*W) of each image, returned as the product of its factors.

    Computes in float32 even under autocast: in half precision, the gradients of its quotients overflow.
    """

    def __init__(self, channels: int, rank: int, steps: int, eval_steps: int, eps: float) -> None:
        super().__init__()
        self.steps, self.eval_steps, self.eps = steps, eval_steps, eps
        self.bases = nn.Parameter(F.normalize(torch.rand(1, channels, rank), dim=1), requires_grad=False)

    def init_bases(self, x: Tensor) -> Tensor:
        """Return initial bases (N, C, R) with columns of length 1."""
        # Training starts from fresh noise for each image, as in the published Hamburger module.
        bases = self.bases.expand(len(x), -1, -1)
        return F.normalize(torch.rand_like(bases), dim=1) if self.training else bases

    def forward(self, x: Tensor) -> Tensor:
        if not x.is_meta and torch.is_autocast_enabled(x.device.type):
            with torch.autocast(x.device.type, enabled=False):
                return self.forward(x.float())
        data = x.flatten(2)  # (N, C, L)
        bases = self.init_bases(x)
        coefficients = torch.bmm(data.transpose(1, 2), bases).softmax(-1)  # (N, L, R)
        for _ in range(self.steps if self.training else self.eval_steps):
            coefficients = self.update_factor(coefficients, data.transpose(1, 2), bases)
            bases = self.update_factor(bases, data, coefficients)
        coefficients = self.update_factor(coefficients, data.transpose(1, 2), bases)
        return torch.bmm(bases, coefficients.transpose(1, 2)).view(x.shape)

    def update_factor(self, factor: Tensor, data: Tensor, other: Tensor) -> Tensor:
        """Return ``factor`` after one multiplicative update towards ``data`` = factor x other^T."""
        # Lee and Seung (2001): factor * (data other) / (factor other^T other), which keeps all entries non-negative.
        gram = torch.bmm(other.transpose(1, 2), other)  # (N, R, R)
        return factor * (torch.bmm(data, other) / (torch.bmm(factor, gram) + self.eps))

    def extra_repr(self) -> str:
        channels, rank = self.bases.shape[1:]
        return f"{channels}, rank={rank}, steps={self.steps}, eval_steps={self.eval_steps}, eps={self.eps}"


def lower_op(op: Op, sizes: Sizes) -> TorchOp:
    """Return the torch module, parameter or call for ``op``; ``sizes`` are the shapes of its operands.

    Modules are initialized from torch's current random generator.
    """
    return LOWERINGS[type(op)](op, sizes)


def _lower_conv(op: conv.Conv, sizes: Sizes) -> nn.Module:
    kernel = (op.kernel.height, op.kernel.width)
    options = {"dilation": op.dilation, "groups": op.groups, "bias": op.bias}
    kind = KaimingConv2d if op.init == "kaiming" else nn.Conv2d
    return kind(sizes[0][1], op.channels, kernel, op.stride, op.compute_paddings(), **options)


def _lower_batch_norm(op: norm.BatchNorm, sizes: Sizes) -> nn.Module:
    if op.updates > 1:
        return RepeatedBatchNorm(sizes[0][1], op.eps, op.momentum, op.updates)
    return nn.BatchNorm2d(sizes[0][1], eps=op.eps, momentum=op.momentum)


def _lower_concat(op: join.Concat, sizes: Sizes) -> Call:
    return Call(torch.cat, {"dim": _find_channel_axis(sizes)}, takes_list=True)


def _lower_split(op: join.Split, sizes: Sizes) -> Call:
    return Call(torch.split, {"dim": _find_channel_axis(sizes)}, trailing_args=(list(op.sizes),))


def _lower_softmax(op: act.Softmax, sizes: Sizes) -> Call:
    if op.over == "space":
        return Call(functional.softmax_over_space)
    return Call(torch.softmax, {"dim": _find_channel_axis(sizes)})


def _lower_l2_normalize(op: norm.L2Normalize, sizes: Sizes) -> Call:
    return Call(functional.l2_normalize, {"over": (2, 3) if op.over == "space" else (1,)})


def _lower_pool(op: pool.AdaptiveAvgPool, sizes: Sizes) -> Call:
    if op.size is None:
        return Call(functional.pool_like)
    return Call(F.adaptive_avg_pool2d, {"output_size": (op.size.height, op.size.width)})


def _lower_resize(op: resize.ResizeTo, sizes: Sizes) -> Call:
    return Call(functional.resize_to, {"mode": op.mode, "align_corners": op.align_corners})


def _lower_parameter(op: parameter.Parameter, shape: tuple[int, ...]) -> nn.Parameter:
    name, arguments = find_initializer(op.init)
    return nn.Parameter(getattr(nn.init, name)(torch.empty(shape), **arguments))


def find_initializer(initializer: Initializer) -> tuple[str, dict[str, float]]:
    """Return the function of `torch.nn.init` and the arguments that initialize a free parameter."""
    return INITIALIZERS[type(initializer)](initializer)


INITIALIZERS: dict[type[Initializer], Callable[[Any], tuple[str, dict[str, float]]]] = {
    parameter.Full: lambda word: ("constant_", {"val": word.value}),
    parameter.Normal: lambda word: ("normal_", {"std": word.std}),
    parameter.TruncNormal: lambda word: ("trunc_normal_", {"std": word.std}),
    parameter.Uniform: lambda word: ("uniform_", {"a": word.low, "b": word.high}),
}
"""The function of `torch.nn.init` and its arguments for each initializer word."""


def _make_arithmetic_lowering(function: Callable[..., Any]) -> Callable[[Any, Sizes], Call]:
    def build_call(op: scalar.Arithmetic, sizes: Sizes) -> Call:
        before = () if op.left is None else (op.left,)
        after = () if op.right is None else (op.right,)
        # torch broadcasts from the last axis, so a vector over the channels of a map needs two more axes.
        has_map = any(len(size) == 4 for size in sizes)
        views = {i: (-1, 1, 1) for i, size in enumerate(sizes) if has_map and len(size) == 1}
        return Call(function, leading_args=before, trailing_args=after, views=views)

    return build_call


def _find_channel_axis(sizes: Sizes) -> int:
    return 1 if len(sizes[0]) == 4 else -1


def _make_plain_lowering(function: Callable[..., Any]) -> Callable[[Any, Sizes], Call]:
    return lambda op, sizes: Call(function)


LOWERINGS: dict[type[Op], Callable[[Any, Sizes], TorchOp]] = {
    conv.Conv: _lower_conv,
    conv.Linear: lambda op, sizes: nn.Linear(sizes[0][-1], op.channels, bias=op.bias),
    norm.BatchNorm: _lower_batch_norm,
    norm.LayerNorm: lambda op, sizes: LayerNorm(sizes[0][_find_channel_axis(sizes)], op.eps),
    norm.GroupNorm: lambda op, sizes: nn.GroupNorm(op.groups, sizes[0][1], eps=op.eps),
    norm.L2Normalize: _lower_l2_normalize,
    act.ReLU: _make_plain_lowering(torch.relu),
    act.GELU: _make_plain_lowering(F.gelu),
    act.Sigmoid: _make_plain_lowering(torch.sigmoid),
    act.SiLU: _make_plain_lowering(F.silu),
    act.Identity: lambda op, sizes: nn.Identity(),
    act.Softmax: _lower_softmax,
    drop.Dropout: lambda op, sizes: nn.Dropout(op.p),
    drop.ChannelDropout: lambda op, sizes: nn.Dropout2d(op.p),
    drop.DropPath: lambda op, sizes: DropPath(op.p),
    factor.NMF: lambda op, sizes: NMF(sizes[0][1], op.rank, op.steps, op.eval_steps, op.eps),
    pool.AdaptiveAvgPool: _lower_pool,
    resize.ResizeTo: _lower_resize,
    join.Concat: _lower_concat,
    join.Split: _lower_split,
    join.Item: lambda op, sizes: Call(operator.getitem, trailing_args=(op.index,)),
    join.ChannelShuffle: lambda op, sizes: Call(torch.channel_shuffle, {"groups": op.groups}),
    scalar.Add: _make_arithmetic_lowering(operator.add),
    scalar.Subtract: _make_arithmetic_lowering(operator.sub),
    scalar.Multiply: _make_arithmetic_lowering(operator.mul),
    scalar.Divide: _make_arithmetic_lowering(operator.truediv),
    tokens.Tokens: _make_plain_lowering(functional.map_to_tokens),
    tokens.ToMap: lambda op, sizes: Call(functional.tokens_to_map, {"skip": op.skip}),
    attention.Attention: lambda op, sizes: Call(functional.compute_attention, {"heads": op.heads}),
    parameter.Parameter: lambda op, sizes: _lower_parameter(op, sizes[-1]),
}
"""The lowering of every op. A `Parameter` gets its own shape as the only size."""
