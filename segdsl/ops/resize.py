"""Resizing ops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from segdsl.diagnostics.aliases import register_aliases
from segdsl.ir.graph import Op, Operand, ShapeError
from segdsl.ir.shape import Shape
from segdsl.ops import fit

register_aliases("bilinear", "linear")


class ResizeTo(Op):
    """Resizes a map to the height and width of another: [B, C, H, W] -> [B, C, h, w]. No cost if they are equal."""

    aliases = ("upsample interpolate upsampling2d",)

    takes: ClassVar[tuple[Operand, ...]] = (Operand("like", "Map with the height and width of the result."),)

    mode: Literal["nearest", "bilinear", "bicubic"] = "bilinear"
    """Interpolation between pixels."""
    align_corners: bool = False
    """Align the centers of the corner pixels instead of their outer edges; not for `nearest`."""

    def get_output_sign(self) -> Literal["any", "nonnegative", "input"]:
        # Bicubic interpolation overshoots at edges.
        return "any" if self.mode == "bicubic" else "input"

    def infer_shape(self, shapes: Sequence[Shape], env: Mapping[str, int]) -> Shape:
        fit.require_map("ResizeTo", shapes[0])
        fit.require_map("ResizeTo", shapes[1], operand=1)
        if self.mode == "nearest" and self.align_corners:
            message = "`align_corners = true` has no effect with `mode = nearest`"
            raise ShapeError("nearest-has-no-corners", message, "remove `align_corners`")
        return (*shapes[0][:2], *shapes[1][2:])
