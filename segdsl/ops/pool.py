"""Pooling ops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from segdsl.ir.graph import Op, Operand, ShapeError
from segdsl.ir.shape import Shape
from segdsl.ir.values import Size
from segdsl.ops import fit


class AdaptiveAvgPool(Op):
    """The mean over a grid of windows that cover a map: [B, C, H, W] -> [B, C, h, w]."""

    aliases = ("adaptive_avg_pool2d global_avg_pool global_average_pooling2d",)

    takes: ClassVar[tuple[Operand, ...]] = (Operand("like", "Map with the height and width of the result.", True),)

    size: Size | None = None
    """Height x width of the result, unless `like` is set; `1x1` is the mean over the whole map."""

    def get_output_sign(self) -> Literal["any", "nonnegative", "input"]:
        return "input"

    def infer_shape(self, shapes: Sequence[Shape], env: Mapping[str, int]) -> Shape:
        fit.require_map("AdaptiveAvgPool", shapes[0])
        if (self.size is None) == (len(shapes) == 1):
            got = "neither" if self.size is None else "both"
            message = f"`AdaptiveAvgPool` needs either `size` or `like`, got {got}"
            raise ShapeError("target-size-unclear", message, "write `AdaptiveAvgPool(1x1)` for global average pooling")
        if self.size is None:
            fit.require_map("AdaptiveAvgPool", shapes[1], operand=1)
            return (*shapes[0][:2], *shapes[1][2:])
        if min(self.size.height, self.size.width) < 1:
            raise ShapeError("target-size-unclear", f"output size must be at least 1x1, got {self.size}", "write `1x1`")
        return (*shapes[0][:2], self.size.height, self.size.width)
