"""Matrix decomposition: a map reconstructed from a few factors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from segdsl.ir.fields import PositiveFloat, PositiveInt
from segdsl.ir.graph import State
from segdsl.ir.shape import Extent, Shape
from segdsl.ops.drop import Noise
from segdsl.ops.fit import require_map


class NMF(Noise):
    """Non-negative matrix factorization of each image's C x HW matrix by multiplicative updates. Preserves the shape.

    Hamburger (Geng et al. 2021), section 2.2: bases [C, rank] and coefficients are updated in turn; the output is their
    product. In training the bases start from random noise, in evaluation from a stored parameter that is never trained.
    Inputs should not be negative.
    """

    needs_nonnegative_input = True

    rank: PositiveInt = 16
    """Number of columns of the bases."""
    steps: PositiveInt = 6
    """Updates of both factors during training."""
    eval_steps: PositiveInt = 7
    """Updates of both factors in evaluation."""
    eps: PositiveFloat = 1e-6
    """Added to the denominator of each update."""

    def get_output_sign(self) -> Literal["any", "nonnegative", "input"]:
        return "nonnegative"

    def infer_shape(self, shapes: Sequence[Shape], env: Mapping[str, int]) -> Shape:
        require_map("NMF", shapes[0])
        return shapes[0]

    def declare_state(self, shapes: Sequence[Shape]) -> dict[str, State]:
        return {"bases": State((1, shapes[0][1], self.rank), "fixed")}

    def count_macs(self, shapes: Sequence[Shape], out: Shape) -> Extent:
        """Return the multiply-accumulates of an evaluation."""
        # Initial coefficients, both updates of each step, final coefficients, and the product of the factors.
        channels, pixels, n = out[1], out[2] * out[3], self.eval_steps
        wide = (2 * n + 3) * pixels * channels * self.rank
        narrow = (2 * n + 1) * (pixels + channels) * self.rank * self.rank
        return wide + narrow
