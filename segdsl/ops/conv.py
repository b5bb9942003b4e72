"""Convolution and linear layers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from segdsl.diagnostics.aliases import Aliases
from segdsl.ir.fields import NaturalInt, PositiveInt
from segdsl.ir.graph import Op, ShapeError, State
from segdsl.ir.shape import Extent, Shape, ceil_div, evaluate_extent, floor_div, format_shape
from segdsl.ir.values import Size
from segdsl.ops import fit

Channels = Annotated[PositiveInt, Aliases("out_channels filters features out_features planes")]


class Conv(Op):
    """A convolution over a map: [B, C, H, W] -> [B, channels, ceil((H + 2p - d(k-1)) / s), …].

    If the stride equals the kernel and there is no padding (patches), the stride must divide the size exactly.
    """

    aliases = (
        Aliases(
            "conv2d conv_2d convolution nn_conv2d",
            "input channels are inferred, and the kernel is a size: `Conv(32, 3x3)`",
        ),
    )

    channels: Channels
    """Output channels."""
    kernel: Annotated[Size, Aliases("kernel_size ksize k")] = Size(1, 1)
    """Height x width of the kernel."""
    stride: PositiveInt = 1
    """Stride in both directions."""
    padding: NaturalInt | None = None
    """Zeros at each border; by default as many as preserve the size at stride 1, which needs an odd kernel."""
    dilation: PositiveInt = 1
    """Spacing of the kernel's taps."""
    groups: PositiveInt = 1
    """Number of separate channel groups; a depthwise convolution has as many as the input has channels."""
    bias: bool = True
    """Add a trained bias to each channel."""
    init: Literal["default", "kaiming"] = "default"
    """Initial weights: PyTorch's default, or Kaiming normal over the fan-out with ReLU gain and a bias of 0."""

    def compute_paddings(self) -> tuple[int, int]:
        """Return the zeros above and below, and those left and right."""
        if self.padding is not None:
            return self.padding, self.padding
        # An even kernel gets k//2 here, but `infer_shape` rejects it before that is used.
        return self.kernel.height // 2 * self.dilation, self.kernel.width // 2 * self.dilation

    @property
    def is_patchify(self) -> bool:
        """Whether the windows tile the map: no overlap, no gaps, no padding."""
        return self.stride > 1 and self.kernel == Size(self.stride, self.stride) and self.compute_paddings() == (0, 0)

    def infer_shape(self, shapes: Sequence[Shape], env: Mapping[str, int]) -> Shape:
        fit.require_map("Conv", shapes[0])
        self._check_kernel()
        fit.require_groups("Conv", evaluate_extent(shapes[0][1], env), self.groups)
        fit.require_groups("Conv", self.channels, self.groups, "output channels")
        if self.is_patchify:
            return self._infer_patches(shapes[0], env)
        size = self._compute_size(shapes[0])
        if min(evaluate_extent(extent, env) for extent in size) < 1:
            message = f"a kernel of {self.kernel} does not fit into {fit.format_shape_values(shapes[0], env)}"
            remedy = "use a smaller kernel, more padding, or a larger `data.input_size`"
            raise ShapeError("kernel-too-large", message, remedy)
        return (shapes[0][0], self.channels, *size)

    def declare_state(self, shapes: Sequence[Shape]) -> dict[str, State]:
        weight = (self.channels, floor_div(shapes[0][1], self.groups), self.kernel.height, self.kernel.width)
        return {"weight": State(weight), **({"bias": State((self.channels,))} if self.bias else {})}

    def count_macs(self, shapes: Sequence[Shape], out: Shape) -> Extent:
        # Per output value: one product for every tap and every input channel of its group.
        taps = self.kernel.height * self.kernel.width
        return out[2] * out[3] * self.channels * floor_div(shapes[0][1], self.groups) * taps

    def _check_kernel(self) -> None:
        if min(self.kernel.height, self.kernel.width) < 1:
            raise ShapeError("kernel-too-small", f"kernel must be at least 1x1, got {self.kernel}", "write `1x1`")
        if self.padding is None and (self.kernel.height % 2 == 0 or self.kernel.width % 2 == 0):
            message = f"no padding preserves the size for an even kernel ({self.kernel})"
            raise ShapeError("even-kernel-needs-padding", message, "set the padding, for example `padding = 0`")

    def _compute_size(self, shape: Shape) -> tuple[Extent, Extent]:
        above, left = self.compute_paddings()
        height = shape[2] + (2 * above - self.dilation * (self.kernel.height - 1))
        width = shape[3] + (2 * left - self.dilation * (self.kernel.width - 1))
        return ceil_div(height, self.stride), ceil_div(width, self.stride)

    def _infer_patches(self, shape: Shape, env: Mapping[str, int]) -> Shape:
        def divides_evenly(env: Mapping[str, int]) -> bool:
            return all(evaluate_extent(extent, env) % self.stride == 0 for extent in shape[2:])

        # PyTorch would drop the incomplete patches at the border silently, and position embeddings would not match.
        if not divides_evenly(env):
            divisor = fit.find_fitting_divisor(divides_evenly, shape[2:], env, self.stride)
            message = f"patches of {self.kernel} do not divide {fit.format_shape_values(shape, env)} evenly"
            remedy = fit.suggest_input_size(divisor, env, "pad the convolution")
            raise ShapeError("size-not-divisible", message, remedy, divisor=divisor)
        return (shape[0], self.channels, *(ceil_div(extent, self.stride) for extent in shape[2:]))


class Linear(Op):
    """A linear layer over the last axis: tokens [B, N, C] -> [B, N, channels]."""

    aliases = ("dense",)

    channels: Channels
    """Output channels."""
    bias: bool = True
    """Add a trained bias to each channel."""

    def infer_shape(self, shapes: Sequence[Shape], env: Mapping[str, int]) -> Shape:
        if len(shapes[0]) not in (2, 3):
            message = f"`Linear` needs tokens [B, N, C], got {format_shape(shapes[0])}"
            raise ShapeError("wrong-rank", message, f"for a map, use `Conv({self.channels}, 1x1)`")
        return (*shapes[0][:-1], self.channels)

    def declare_state(self, shapes: Sequence[Shape]) -> dict[str, State]:
        weight = State((self.channels, shapes[0][-1]))
        return {"weight": weight, **({"bias": State((self.channels,))} if self.bias else {})}

    def count_macs(self, shapes: Sequence[Shape], out: Shape) -> Extent:
        return math.prod(out[1:-1]) * shapes[0][-1] * self.channels
