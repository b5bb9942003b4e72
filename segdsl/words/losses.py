"""Loss words: what training minimizes.

``segdsl/run/engine/criterion.py`` implements them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Literal, Self

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import model_validator

from segdsl.diagnostics.aliases import Aliases
from segdsl.ir.families import ClassWeights, Loss, Reduction
from segdsl.ir.fields import NaturalFloat, PositiveFloat

ClassId = Annotated[int, Ge(0), Le(255)]
Smoothing = Annotated[float, Ge(0), Lt(1), Aliases("smoothing")]
PixelAverage = Annotated[Literal["valid", "all"], Aliases("avg_non_ignore")]
Share = Annotated[float, Gt(0), Le(1)]


class CrossEntropy(Loss):
    """Softmax cross-entropy of every pixel, averaged over the batch."""

    aliases = (
        "cross_entropy_loss ce ce_loss xent softmax_cross_entropy sparse_categorical_crossentropy",
        "categorical_crossentropy",
    )

    average: PixelAverage = "valid"
    """Divisor of the sum: the number of pixels that are not ignored, or the number of `all` pixels (images with many
    ignored pixels then count less)."""
    label_smoothing: Smoothing = 0.0
    """Share of the target probability that is spread evenly over all classes."""
    class_weights: ClassWeights = None
    """Factor for the terms of each class, in the order of the classes that are learned; by default all classes have the
    same weight. `auto` counts the training subset when a run starts: the weight of a class is the median frequency of
    all classes divided by the frequency of the class, clipped to 0.1 to 10 (Eigen and Fergus, 2015, section 6.3.2), and
    1 for a class that never occurs."""
    hardest: Annotated[Share, Aliases("ohem ohem_ratio keep_ratio top_k topk")] = 1.0
    """Share of the pixels of a batch that count: those with the highest loss, averaged over themselves. This is online
    hard example mining (Shrivastava et al., OHEM, 2016). With `train.accumulate` the pixels are chosen within each
    batch, not over all batches of a step."""
    ignore: ClassId | None = None
    """Mask value that is not learned; `data.ignore` by default."""

    def get_reduction(self) -> Reduction:
        return self.average


class Dice(Loss):
    """One minus the soft Dice score of each class over the batch, averaged over the classes (Milletari et al., V-Net,
    section 3).

    With `train.accumulate` it is the mean over the batches of a step, which differs slightly from the Dice of all
    batches together.
    """

    aliases = ("dice_loss soft_dice soft_dice_loss",)

    smooth: Annotated[PositiveFloat, Aliases("eps epsilon")] = 1.0
    """Number of pixels added to numerator and denominator, so that an absent class does not divide by zero."""
    background: Annotated[bool, Aliases("include_background use_background")] = True
    """Include class 0. Set it to `false` for datasets whose first class is the background."""
    ignore: ClassId | None = None
    """Mask value that is not learned; `data.ignore` by default."""

    def get_reduction(self) -> Reduction:
        # A ratio of sums over the batch cannot be split by pixels, so batches count by their images.
        return "images"


class Focal(Loss):
    """Cross-entropy of every pixel times (1 - p) ** gamma, where p is the softmax probability of its class (Lin et al.,
    2017, equation 5, for several classes).

    Pixels that are already classified well count less.
    """

    aliases = ("focal_loss",)

    gamma: NaturalFloat = 2.0
    """Strength of the focus on hard pixels: 0 is plain cross-entropy, larger values reduce the weight of easy pixels
    more."""
    average: PixelAverage = "valid"
    """Divisor of the sum: the number of pixels that are not ignored, or the number of `all` pixels (images with many
    ignored pixels then count less)."""
    class_weights: ClassWeights = None
    """Factor for the pixels of each class, called alpha in the paper; numbers or `auto`, as in `CrossEntropy`."""
    ignore: ClassId | None = None
    """Mask value that is not learned; `data.ignore` by default."""

    def get_reduction(self) -> Reduction:
        return self.average


class WeightedSum(Loss):
    """Weighted sum of several losses."""

    aliases = ("combined_loss combo_loss compound_loss dice_ce dice_ce_loss",)
    usual_form = "WeightedSum([CrossEntropy(), Dice()])"

    losses: Annotated[tuple[Loss, ...], MinLen(1)]
    """The losses to add."""
    weights: tuple[NaturalFloat, ...] | None = None
    """One weight per loss; by default all are 1."""

    def iterate_terms(self) -> Iterator[tuple[float, Loss]]:
        weights = self.weights or (1.0,) * len(self.losses)
        for weight, loss in zip(weights, self.losses, strict=True):
            yield from ((weight * factor, term) for factor, term in loss.iterate_terms())

    def replace_auto_weights(self, weights: Sequence[float]) -> Self:
        return self.model_copy(update={"losses": tuple(loss.replace_auto_weights(weights) for loss in self.losses)})

    @model_validator(mode="after")
    def _check_weight_count(self) -> WeightedSum:
        if self.weights is not None and len(self.weights) != len(self.losses):
            counts = f"{len(self.losses)} losses but {len(self.weights)} weights"
            raise ValueError(f"`WeightedSum` has {counts}: give one weight for each loss, or none")
        return self
