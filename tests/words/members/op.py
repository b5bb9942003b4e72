"""Two ops that segdsl does not have, a function and a module, and their lowerings."""

from __future__ import annotations

from typing import Literal

from torch import nn
from torch.nn import functional as F

from segdsl.ir.fields import PositiveFloat
from segdsl.lower.modules import LOWERINGS, Call
from segdsl.ops.act import Elementwise


class Softplus(Elementwise):
    """log(1 + exp(x))."""

    aliases = ("soft_plus_relu",)

    beta: PositiveFloat = 1.0
    """Sharpness of the bend."""

    def get_output_sign(self) -> Literal["any", "nonnegative", "input"]:
        return "nonnegative"


class HardSwish(Elementwise):
    """x * min(max(x + 3, 0), 6) / 6 (Howard et al., 2019)."""

    aliases = ("h_swish",)


LOWERINGS[Softplus] = lambda op, sizes: Call(F.softplus, {"beta": op.beta})
LOWERINGS[HardSwish] = lambda op, sizes: nn.Hardswish()
