"""Losses: what training minimises. Each word has its realisation in ``segdsl/run/engine/criterion.py``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import model_validator

from segdsl.ir.program import Loss, NaturalFloat, PositiveFloat

ClassId = Annotated[int, Ge(0), Le(255)]
Smoothing = Annotated[float, Ge(0), Lt(1)]
Share = Annotated[float, Gt(0), Le(1)]
ClassWeights = tuple[PositiveFloat, ...] | Literal["auto"] | None
"""A number for each learnt class, in the order of their ids; `auto` is :mod:`segdsl.data.stats.class_weights`."""


class CrossEntropy(Loss):
    """Softmax cross entropy of every pixel, averaged over the batch."""

    average: Literal["valid", "all"] = "valid"
    """Divide by the pixels that are learnt, or by all of them (then images with much void weigh less)."""
    label_smoothing: Smoothing = 0.0
    """Share of the target that is spread evenly over all classes."""
    class_weights: ClassWeights = None
    """What the terms of each class are multiplied by, in the order of the classes that are learnt; left out, all weigh
    the same. `auto` counts the training subset when a run starts: the median of the frequencies of the classes over
    that of the class, within 0.1 and 10 (Eigen and Fergus, 2015, section 6.3.2); 1 for a class that never occurs."""
    hardest: Share = 1.0
    """Share of the learnt pixels of a batch that count, those with the highest loss, averaged over themselves: hard
    example mining (Shrivastava et al., OHEM, 2016). With `train.accumulate` they are chosen in each batch by itself,
    not among all of a step."""
    ignore: ClassId | None = None
    """Mask value that is not learnt; left out, `data.ignore`."""


class Dice(Loss):
    """One minus the soft Dice of each class over the batch, averaged (Milletari et al., V-Net, section 3).

    With `train.accumulate` it is the mean of that of each batch, which is not quite that of them all.
    """

    smooth: PositiveFloat = 1.0
    """Pixels added to numerator and denominator, so that an absent class does not divide by zero."""
    background: bool = True
    """Count class 0 as well; `false` suits sets whose first class is background."""
    ignore: ClassId | None = None
    """Mask value that is not learnt; left out, `data.ignore`."""


class Focal(Loss):
    """Cross entropy of every pixel times (1 - p) ** gamma, p being the softmax of its class: what is learnt already
    counts less (Lin et al., 2017, equation 5, for several classes)."""

    gamma: NaturalFloat = 2.0
    """How much less: 0 is cross entropy, larger leaves more to the hard pixels."""
    average: Literal["valid", "all"] = "valid"
    """Divide by the pixels that are learnt, or by all of them (then images with much void weigh less)."""
    class_weights: ClassWeights = None
    """What the pixels of each class are multiplied by, the paper's alpha; as in `CrossEntropy`, `auto` included."""
    ignore: ClassId | None = None
    """Mask value that is not learnt; left out, `data.ignore`."""


class WeightedSum(Loss):
    """Several losses at once, each times its weight."""

    losses: Annotated[tuple[Loss, ...], MinLen(1)]
    """The losses to add."""
    weights: tuple[NaturalFloat, ...] | None = None
    """One weight for each; left out, all are 1."""

    @model_validator(mode="after")
    def _has_a_weight_for_each(self) -> WeightedSum:
        if self.weights is not None and len(self.weights) != len(self.losses):
            raise ValueError(f"{len(self.losses)} losses and {len(self.weights)} weights: give one for each, or none")
        return self


def asks_for_weights(loss: Loss | None) -> bool:
    """Whether a loss, or one inside it, takes the weights of the classes from the data."""
    if isinstance(loss, WeightedSum):
        return any(map(asks_for_weights, loss.losses))
    return isinstance(loss, CrossEntropy | Focal) and loss.class_weights == "auto"


def with_weights(loss: Loss, weights: Sequence[float]) -> Loss:
    """The loss with ``weights`` of the classes in place of every `auto`."""
    if isinstance(loss, WeightedSum):
        return loss.model_copy(update={"losses": tuple(with_weights(inner, weights) for inner in loss.losses)})
    return loss.model_copy(update={"class_weights": tuple(weights)}) if asks_for_weights(loss) else loss
