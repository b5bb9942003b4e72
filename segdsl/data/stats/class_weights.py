"""Class weights from class frequencies: median frequency balancing within bounds."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from segdsl.data.check.checker import CheckReport

MIN_WEIGHT, MAX_WEIGHT = 0.1, 10.0
"""Bounds of a weight: a class with a few hundred pixels must not dominate all others."""
# It never occurs in training, so the value only matters to code that expects one weight per class.
ABSENT_CLASS_WEIGHT = 1.0
"""Weight of a class that never occurs; equal to that of a class of median frequency."""


def compute_median_frequency_weights(frequencies: Sequence[float]) -> list[float]:
    """Return the weight of each class by median frequency balancing (Eigen and Fergus, ICCV 2015, section 6.3.2).

    The weight is the median of all frequencies divided by the frequency of the class; a frequency is the class's share
    of the labeled pixels of the images that show it. Weights are clipped to :data:`MIN_WEIGHT` and :data:`MAX_WEIGHT`.
    A class of frequency 0 gets :data:`ABSENT_CLASS_WEIGHT` and does not count in the median.
    """
    present = [frequency for frequency in frequencies if frequency > 0]
    if not present:
        return [ABSENT_CLASS_WEIGHT] * len(frequencies)
    middle = median(present)
    return [min(max(middle / f, MIN_WEIGHT), MAX_WEIGHT) if f > 0 else ABSENT_CLASS_WEIGHT for f in frequencies]


def compute_subset_weights(report: CheckReport, subset: str, ignore: int) -> list[float]:
    """Return the class weights of a checked dataset, from the masks of ``subset``, in the order of the class ids.

    Ids are those after `exclude` and `remap`. A class whose id is ``ignore`` is never learned and counts as absent.
    """
    pixels, within = report.pixels[subset], report.class_image_pixels[subset]
    counts = [k != ignore and within[k] > 0 for k in range(len(report.classes))]
    return compute_median_frequency_weights(
        [float(pixels[k] / within[k]) if yes else 0.0 for k, yes in enumerate(counts)]
    )
