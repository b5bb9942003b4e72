"""Losses: what training minimises. Each word has its realisation in ``segdsl/run/criterion.py``."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, Le, Lt, MinLen

from segdsl.ir.program import Loss, NaturalFloat, PositiveFloat

ClassId = Annotated[int, Ge(0), Le(255)]
Smoothing = Annotated[float, Ge(0), Lt(1)]


class CrossEntropy(Loss):
    """Softmax cross entropy of every pixel, averaged over the batch."""

    ignore: ClassId | None = None
    """Mask value that is not learnt; left out, `data.ignore`."""
    average: Literal["valid", "all"] = "valid"
    """Divide by the pixels that are learnt, or by all of them (then images with much void weigh less)."""
    label_smoothing: Smoothing = 0.0
    """Share of the target that is spread evenly over all classes."""
    class_weights: tuple[PositiveFloat, ...] | None = None
    """Weight of each class, in the order of `data.classes`; left out, all weigh the same."""


class Dice(Loss):
    """One minus the soft Dice of each class over the batch, averaged (Milletari et al., V-Net, section 3)."""

    ignore: ClassId | None = None
    """Mask value that is not learnt; left out, `data.ignore`."""
    background: bool = True
    """Count class 0 as well; `false` suits sets whose first class is background."""
    smooth: PositiveFloat = 1.0
    """Pixels added to numerator and denominator, so that an absent class does not divide by zero."""


class WeightedSum(Loss):
    """Several losses at once, each times its weight."""

    losses: Annotated[tuple[Loss, ...], MinLen(1)]
    """The losses to add."""
    weights: tuple[NaturalFloat, ...] | None = None
    """One weight for each; left out, all are 1."""
