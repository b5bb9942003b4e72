"""Convolution and linear maps: the ops whose multiply-accumulates count."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from segdsl.ir.graph import Op, ShapeError, State
from segdsl.ir.program import NaturalInt, PositiveInt
from segdsl.ir.shape import Extent, Shape, at, ceil_div, floor_div, show
from segdsl.ir.values import Size
from segdsl.ops import fit


class Conv(Op):
    """A convolution over a map: [B, C, H, W] -> [B, channels, ceil((H + 2p - d(k-1)) / s), …].

    Where the stride equals the kernel and nothing is padded (patches), the size must divide exactly.
    """

    channels: PositiveInt
    """Channels of the result."""
    kernel: Size = Size(1, 1)
    """Height x width of the window."""
    stride: PositiveInt = 1
    """Step of the window, in both directions."""
    padding: NaturalInt | None = None
    """Zeros at each border; left out, as many as keep the size at stride 1, which needs an odd kernel."""
    dilation: PositiveInt = 1
    """Distance of the window's taps."""
    groups: PositiveInt = 1
    """Groups of channels that do not see each other; equal to the input's channels, the convolution is depthwise."""
    bias: bool = True
    """Adds a trained number to each channel."""
    init: Literal["default", "kaiming"] = "default"
    """Start of the weights: PyTorch's, or Kaiming normal over the fan-out with ReLU gain and a bias of 0."""

    def paddings(self) -> tuple[int, int]:
        """Zeros above and below, left and right. An even kernel without `padding` gets k//2, which `infer` refuses."""
        if self.padding is not None:
            return self.padding, self.padding
        return self.kernel.height // 2 * self.dilation, self.kernel.width // 2 * self.dilation

    @property
    def cuts_patches(self) -> bool:
        """Whether the windows neither overlap nor leave gaps nor reach over the border."""
        return self.stride > 1 and self.kernel == Size(self.stride, self.stride) and self.paddings() == (0, 0)

    def infer(self, shapes: Sequence[Shape], env: Mapping[str, int]) -> Shape:
        fit.need_map("Conv", shapes[0])
        self._check_kernel()
        fit.need_groups("Conv", at(shapes[0][1], env), self.groups)
        fit.need_groups("Conv", self.channels, self.groups, "output channels")
        if self.cuts_patches:
            return self._infer_patches(shapes[0], env)
        size = self._size(shapes[0])
        if min(at(extent, env) for extent in size) < 1:
            message = f"a kernel of {self.kernel} does not fit into {fit.values(shapes[0], env)}"
            remedy = "use a smaller kernel, more padding, or a larger `data.input_size`"
            raise ShapeError("kernel-too-large", message, remedy)
        return (shapes[0][0], self.channels, *size)

    def state(self, shapes: Sequence[Shape]) -> dict[str, State]:
        weight = (self.channels, floor_div(shapes[0][1], self.groups), self.kernel.height, self.kernel.width)
        return {"weight": State(weight), **({"bias": State((self.channels,))} if self.bias else {})}

    def macs(self, shapes: Sequence[Shape], out: Shape) -> Extent:
        taps = self.kernel.height * self.kernel.width
        return out[2] * out[3] * self.channels * floor_div(shapes[0][1], self.groups) * taps

    def _check_kernel(self) -> None:
        if min(self.kernel.height, self.kernel.width) < 1:
            raise ShapeError("kernel-too-small", f"a kernel needs at least 1x1, got {self.kernel}", "write `1x1`")
        if self.padding is None and (self.kernel.height % 2 == 0 or self.kernel.width % 2 == 0):
            message = f"an even kernel ({self.kernel}) has no padding that keeps the size"
            raise ShapeError("even-kernel-needs-padding", message, "say it: `padding = 0`")

    def _size(self, shape: Shape) -> tuple[Extent, Extent]:
        above, left = self.paddings()
        height = shape[2] + (2 * above - self.dilation * (self.kernel.height - 1))
        width = shape[3] + (2 * left - self.dilation * (self.kernel.width - 1))
        return ceil_div(height, self.stride), ceil_div(width, self.stride)

    def _infer_patches(self, shape: Shape, env: Mapping[str, int]) -> Shape:
        def fits(there: Mapping[str, int]) -> bool:
            return all(at(extent, there) % self.stride == 0 for extent in shape[2:])

        if not fits(env):
            divisor = fit.divisor_that_fits(fits, shape[2:], env, self.stride)
            message = f"patches of {self.kernel} do not cut {fit.values(shape, env)} evenly"
            remedy = fit.size_help(divisor, env, "pad the convolution")
            raise ShapeError("size-not-divisible", message, remedy, divisor=divisor)
        return (shape[0], self.channels, *(ceil_div(extent, self.stride) for extent in shape[2:]))


class Linear(Op):
    """A linear map over the last axis: tokens [B, N, C] -> [B, N, channels]."""

    channels: PositiveInt
    """Channels of the result."""
    bias: bool = True
    """Adds a trained number to each channel."""

    def infer(self, shapes: Sequence[Shape], env: Mapping[str, int]) -> Shape:
        if len(shapes[0]) not in (2, 3):
            message = f"`Linear` needs tokens [B, N, C], got {show(shapes[0])}"
            raise ShapeError("wrong-rank", message, f"over a map it is `Conv({self.channels}, 1x1)`")
        return (*shapes[0][:-1], self.channels)

    def state(self, shapes: Sequence[Shape]) -> dict[str, State]:
        weight = State((self.channels, shapes[0][-1]))
        return {"weight": weight, **({"bias": State((self.channels,))} if self.bias else {})}

    def macs(self, shapes: Sequence[Shape], out: Shape) -> Extent:
        return math.prod(out[1:-1]) * shapes[0][-1] * self.channels
