"""Optimizers. A word's fields, but for ``OWN``, are the arguments of the torch class that ``target`` names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Lt, MinLen
from pydantic import model_validator

from segdsl.ir.parts import is_below
from segdsl.ir.program import NaturalFloat, Optimizer, PositiveFloat
from segdsl.ir.values import GraphPath
from segdsl.ir.word import Word

Decay = Annotated[float, Ge(0), Lt(1)]
Decayed = Literal["all", "weights"]
OWN = frozenset({"decay", "groups"})
"""The arguments that no torch class has: :mod:`segdsl.run.engine.optimizers` makes groups of parameters of them."""


class Group(Word):
    """Parts of the network that an optimizer moves in their own way.

    Of two groups that hold a parameter, the one with the longer path counts. What a group leaves out, the optimizer
    says.
    """

    kind: ClassVar[str] = "group"

    paths: Annotated[tuple[GraphPath, ...], MinLen(1)]
    """The parts, by path, as in `train.freeze`."""
    lr: PositiveFloat | None = None
    """Their learning rate, which the schedule scales as it does the optimizer's; left out, the optimizer's."""
    weight_decay: NaturalFloat | None = None
    """Their weight decay; left out, the optimizer's."""


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
    decay: Decayed = "all"
    """What decays: all that is trained, or only `weights`: kernels of convolutions and matrices of linear layers, and
    neither biases, norms nor what `param` declares (layer scales, tokens, tables of positions)."""
    groups: tuple[Group, ...] = ()
    """Parts with a rate or decay of their own."""


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
    decay: Decayed = "all"
    """What decays: all that is trained, or only `weights`: kernels of convolutions and matrices of linear layers, and
    neither biases, norms nor what `param` declares (layer scales, tokens, tables of positions)."""
    groups: tuple[Group, ...] = ()
    """Parts with a rate or decay of their own."""


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
    decay: Decayed = "all"
    """What decays: all that is trained, or only `weights`: kernels of convolutions and matrices of linear layers, and
    neither biases, norms nor what `param` declares (layer scales, tokens, tables of positions)."""
    groups: tuple[Group, ...] = ()
    """Parts with a rate or decay of their own."""

    @model_validator(mode="after")
    def _has_momentum(self) -> SGD:
        if self.nesterov and self.momentum == 0:
            raise ValueError("`nesterov = true` needs a `momentum` above 0")
        return self


def group_of(name: str, groups: Iterable[Group]) -> Group | None:
    """The group that a parameter belongs to: the one with the longest path above it; None where it is in none."""
    found = [(len(path), group) for group in groups for path in group.paths if is_below(name, [path])]
    return max(found, key=lambda each: each[0])[1] if found else None
