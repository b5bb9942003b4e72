"""Optimizers. A word's fields are the arguments of the torch class that ``target`` names."""

from __future__ import annotations

from typing import Annotated, ClassVar

from annotated_types import Ge, Lt
from pydantic import model_validator

from segdsl.ir.program import NaturalFloat, Optimizer, PositiveFloat

Decay = Annotated[float, Ge(0), Lt(1)]


class Adam(Optimizer):
    """Adaptive moments (Kingma and Ba, 2015); weight decay is added to the gradient."""

    target: ClassVar[str] = "torch.optim:Adam"

    lr: PositiveFloat = 1e-3
    """Learning rate that the schedule scales."""
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    """Decay of the running means of the gradient and of its square."""
    eps: PositiveFloat = 1e-8
    """Added to the denominator."""
    weight_decay: NaturalFloat = 0.0
    """L2 penalty, added to the gradient."""


class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019)."""

    target: ClassVar[str] = "torch.optim:AdamW"

    lr: PositiveFloat = 1e-3
    """Learning rate that the schedule scales."""
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    """Decay of the running means of the gradient and of its square."""
    eps: PositiveFloat = 1e-8
    """Added to the denominator."""
    weight_decay: NaturalFloat = 0.01
    """Share of the weights that is taken off in a step, times the learning rate."""


class SGD(Optimizer):
    """Stochastic gradient descent with momentum."""

    target: ClassVar[str] = "torch.optim:SGD"

    lr: PositiveFloat = 1e-2
    """Learning rate that the schedule scales."""
    momentum: Decay = 0.9
    """Share of the last update that is kept."""
    weight_decay: NaturalFloat = 0.0
    """L2 penalty, added to the gradient."""
    nesterov: bool = False
    """Look ahead along the momentum (Sutskever et al., 2013)."""

    @model_validator(mode="after")
    def _has_momentum(self) -> SGD:
        if self.nesterov and self.momentum == 0:
            raise ValueError("`nesterov = true` needs a `momentum` above 0")
        return self
