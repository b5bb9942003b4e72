"""Optimizer words. Their fields, except ``NON_TORCH_FIELDS``, are the arguments of the torch class named by
``target``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Lt, MinLen
from pydantic import model_validator

from segdsl.diagnostics.aliases import Aliases
from segdsl.ir.families import Optimizer
from segdsl.ir.fields import NaturalFloat, PositiveFloat
from segdsl.ir.parts import is_below
from segdsl.ir.values import GraphPath
from segdsl.ir.word import Word

Decay = Annotated[float, Ge(0), Lt(1)]
DecayScope = Literal["all", "weights"]
NON_TORCH_FIELDS = frozenset({"decay", "groups"})
"""Arguments that the torch classes do not have; :mod:`segdsl.run.engine.optimizers` turns them into parameter
groups."""


class Group(Word):
    """Parts of the network with a learning rate or weight decay of their own.

    If two groups contain a parameter, the group with the longer path applies. Values that a group omits come from the
    optimizer.
    """

    kind: ClassVar[str] = "group"

    paths: Annotated[tuple[GraphPath, ...], MinLen(1)]
    """Paths of the parts, as in `train.freeze`."""
    lr: PositiveFloat | None = None
    """Learning rate of these parts, scaled by the schedule like the optimizer's; the optimizer's by default."""
    weight_decay: NaturalFloat | None = None
    """Weight decay of these parts; the optimizer's by default."""


LearningRate = Annotated[PositiveFloat, Aliases("learning_rate lr0 base_lr initial_lr max_lr")]
WeightDecay = Annotated[NaturalFloat, Aliases("wd l2")]
Groups = Annotated[tuple[Group, ...], Aliases("num_groups param_groups parameters params")]


class Adam(Optimizer):
    """Adam (Kingma and Ba, 2015); weight decay is added to the gradient."""

    target: ClassVar[str] = "torch.optim:Adam"

    # Defaults are torch's, except for SGD's learning rate, which torch 2.x sets to 1e-3.
    lr: LearningRate = 1e-3
    """Learning rate, scaled by the schedule."""
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    """Decay rates of the running means of the gradient and of its square."""
    eps: PositiveFloat = 1e-8
    """Number added to the denominator, to avoid division by zero."""
    weight_decay: WeightDecay = 0.0
    """L2 penalty, added to the gradient."""
    decay: DecayScope = "all"
    """What weight decay applies to: `all` trained parameters, or only `weights`, which are the kernels of convolutions
    and the matrices of linear layers. `weights` leaves out biases, normalization layers and everything declared with
    `param` (layer scales, tokens, position tables)."""
    groups: Groups = ()
    """Parts with a learning rate or weight decay of their own."""


class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019)."""

    target: ClassVar[str] = "torch.optim:AdamW"

    lr: LearningRate = 1e-3
    """Learning rate, scaled by the schedule."""
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    """Decay rates of the running means of the gradient and of its square."""
    eps: PositiveFloat = 1e-8
    """Number added to the denominator, to avoid division by zero."""
    weight_decay: WeightDecay = 0.01
    """Share of the weights, times the learning rate, that is subtracted in each step."""
    decay: DecayScope = "all"
    """What weight decay applies to: `all` trained parameters, or only `weights`, which are the kernels of convolutions
    and the matrices of linear layers. `weights` leaves out biases, normalization layers and everything declared with
    `param` (layer scales, tokens, position tables)."""
    groups: Groups = ()
    """Parts with a learning rate or weight decay of their own."""


class SGD(Optimizer):
    """Stochastic gradient descent with momentum."""

    target: ClassVar[str] = "torch.optim:SGD"

    lr: LearningRate = 1e-2
    """Learning rate, scaled by the schedule."""
    momentum: Decay = 0.9
    """Share of the previous update that is kept."""
    weight_decay: WeightDecay = 0.0
    """L2 penalty, added to the gradient."""
    nesterov: bool = False
    """Use Nesterov momentum (Sutskever et al., 2013)."""
    decay: DecayScope = "all"
    """What weight decay applies to: `all` trained parameters, or only `weights`, which are the kernels of convolutions
    and the matrices of linear layers. `weights` leaves out biases, normalization layers and everything declared with
    `param` (layer scales, tokens, position tables)."""
    groups: Groups = ()
    """Parts with a learning rate or weight decay of their own."""

    @model_validator(mode="after")
    def _check_momentum(self) -> SGD:
        # torch raises a similar error, but only when a run creates the optimizer; `check` must find it.
        if self.nesterov and self.momentum == 0:
            raise ValueError("`nesterov = true` requires a `momentum` above 0")
        return self


def find_group(name: str, groups: Iterable[Group]) -> Group | None:
    """Return the group of a parameter, the one with the longest matching path, or None if no group contains it."""
    found = [(len(path), group) for group in groups for path in group.paths if is_below(name, [path])]
    return max(found, key=lambda each: each[0])[1] if found else None
