"""Weights of classes from how often they occur: median frequency balancing, within bounds."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from segdsl.data.check.checker import CheckReport

LIGHTEST, HEAVIEST = 0.1, 10.0
"""Bounds of a weight: a class with a few hundred pixels must not drown all others."""
ABSENT = 1.0
"""The weight of a class that never occurs: that of a class of middle frequency."""


def median_frequency_weights(frequencies: Sequence[float]) -> list[float]:
    """Median frequency balancing (Eigen and Fergus, ICCV 2015, section 6.3.2): median of all frequencies over that of
    the class, a frequency being its share of the labelled pixels of the images that show it.

    Bounded by :data:`LIGHTEST` and :data:`HEAVIEST`; a class of frequency 0 weighs :data:`ABSENT`, and the median is
    that of the others.
    """
    here = [frequency for frequency in frequencies if frequency > 0]
    if not here:
        return [ABSENT] * len(frequencies)
    middle = median(here)
    return [min(max(middle / f, LIGHTEST), HEAVIEST) if f > 0 else ABSENT for f in frequencies]


def counted_weights(report: CheckReport, subset: str, ignore: int) -> list[float]:
    """The weights of the classes of a checked data set by what its masks of ``subset`` show, in the order of their ids,
    after `exclude` and `remap`. A class whose id is ``ignore`` is never learnt and counts as absent."""
    pixels, within = report.pixels[subset], report.within[subset]
    learnt = [k != ignore and within[k] > 0 for k in range(len(report.classes))]
    return median_frequency_weights([float(pixels[k] / within[k]) if here else 0.0 for k, here in enumerate(learnt)])
