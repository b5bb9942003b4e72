"""Loss words: what training minimizes.

``segdsl/run/engine/criterion.py`` implements them.
"""

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
"""One number per class that is learned, in the order of the class ids. `auto` is computed by
:mod:`segdsl.data.stats.class_weights`."""


class CrossEntropy(Loss):
    """Softmax cross-entropy of every pixel, averaged over the batch."""

    average: Literal["valid", "all"] = "valid"
    """Divisor of the sum: the number of pixels that are not ignored, or the number of `all` pixels (images with many
    ignored pixels then count less)."""
    label_smoothing: Smoothing = 0.0
    """Share of the target probability that is spread evenly over all classes."""
    class_weights: ClassWeights = None
    """Factor for the terms of each class, in the order of the classes that are learned; by default all classes have the
    same weight. `auto` counts the training subset when a run starts: the weight of a class is the median frequency of
    all classes divided by the frequency of the class, clipped to 0.1 to 10 (Eigen and Fergus, 2015, section 6.3.2), and
    1 for a class that never occurs."""
    hardest: Share = 1.0
    """Share of the pixels of a batch that count: those with the highest loss, averaged over themselves. This is online
    hard example mining (Shrivastava et al., OHEM, 2016). With `train.accumulate` the pixels are chosen within each
    batch, not over all batches of a step."""
    ignore: ClassId | None = None
    """Mask value that is not learned; `data.ignore` by default."""


class Dice(Loss):
    """One minus the soft Dice score of each class over the batch, averaged over the classes (Milletari et al., V-Net,
    section 3).

    With `train.accumulate` it is the mean over the batches of a step, which differs slightly from the Dice of all
    batches together.
    """

    smooth: PositiveFloat = 1.0
    """Number of pixels added to numerator and denominator, so that an absent class does not divide by zero."""
    background: bool = True
    """Include class 0. Set it to `false` for datasets whose first class is the background."""
    ignore: ClassId | None = None
    """Mask value that is not learned; `data.ignore` by default."""


class Focal(Loss):
    """Cross-entropy of every pixel times (1 - p) ** gamma, where p is the softmax probability of its class (Lin et al.,
    2017, equation 5, for several classes).

    Pixels that are already classified well count less.
    """

    gamma: NaturalFloat = 2.0
    """Strength of the focus on hard pixels: 0 is plain cross-entropy, larger values reduce the weight of easy pixels
    more."""
    average: Literal["valid", "all"] = "valid"
    """Divisor of the sum: the number of pixels that are not ignored, or the number of `all` pixels (images with many
    ignored pixels then count less)."""
    class_weights: ClassWeights = None
    """Factor for the pixels of each class, called alpha in the paper; numbers or `auto`, as in `CrossEntropy`."""
    ignore: ClassId | None = None
    """Mask value that is not learned; `data.ignore` by default."""


class WeightedSum(Loss):
    """Weighted sum of several losses."""

    losses: Annotated[tuple[Loss, ...], MinLen(1)]
    """The losses to add."""
    weights: tuple[NaturalFloat, ...] | None = None
    """One weight per loss; by default all are 1."""

    @model_validator(mode="after")
    def _check_weight_count(self) -> WeightedSum:
        if self.weights is not None and len(self.weights) != len(self.losses):
            counts = f"{len(self.losses)} losses but {len(self.weights)} weights"
            raise ValueError(f"`WeightedSum` has {counts}: give one weight for each loss, or none")
        return self


def needs_class_weights(loss: Loss | None) -> bool:
    """Return whether a loss, or a loss inside it, has `class_weights = auto`."""
    if isinstance(loss, WeightedSum):
        return any(map(needs_class_weights, loss.losses))
    # The other losses have no class weights.
    return isinstance(loss, CrossEntropy | Focal) and loss.class_weights == "auto"


def replace_auto_weights(loss: Loss, weights: Sequence[float]) -> Loss:
    """Return the loss with ``weights`` in place of every `class_weights = auto`."""
    if isinstance(loss, WeightedSum):
        return loss.model_copy(update={"losses": tuple(replace_auto_weights(inner, weights) for inner in loss.losses)})
    return loss.model_copy(update={"class_weights": tuple(weights)}) if needs_class_weights(loss) else loss
