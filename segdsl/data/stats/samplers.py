"""Samplers: which images an epoch uses, and how often."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from segdsl.data.augment.sample import Rng
from segdsl.ir.program import Sampler
from segdsl.words.samplers import ClassBalanced, RepeatFactor

Shown = np.ndarray
"""Whether each image shows each class: one bit per class, packed to uint8 (images, ceil(classes / 8))."""
SLICE = 1 << 16
"""Number of images to unpack at once."""


def repeats(word: Sampler, shown: Shown, classes: int) -> np.ndarray:
    """Return how often an epoch uses each image on average, float64 (images,)."""
    return REALISATIONS[type(word)](word, shown, classes)


def class_balanced(word: ClassBalanced, shown: Shown, classes: int) -> np.ndarray:
    """Return the repeats of `ClassBalanced`: each class that occurs gives an equal share of the epoch to its images."""
    images = _images(shown, classes)
    share = np.divide(1.0, images, out=np.zeros(classes), where=images > 0) / max(np.count_nonzero(images), 1)
    weights = _by_image(shown, classes, lambda part: part @ share)
    return weights * len(shown) if weights.any() else np.ones(len(shown))


def repeat_factor(word: RepeatFactor, shown: Shown, classes: int) -> np.ndarray:
    """Return the repeats of `RepeatFactor`: the largest factor of the classes in the image, at least 1."""
    frequency = np.maximum(_images(shown, classes), 1) / len(shown)
    factor = np.maximum(np.sqrt(word.threshold / frequency), 1.0)
    return _by_image(shown, classes, lambda part: np.maximum((part * factor).max(axis=1), 1.0))


def _images(shown: Shown, classes: int) -> np.ndarray:
    """Return the number of images that show each class."""
    counts = np.zeros(classes, np.int64)
    for start in range(0, len(shown), SLICE):
        counts += _unpacked(shown[start : start + SLICE], classes).sum(axis=0, dtype=np.int64)
    return counts


def _by_image(shown: Shown, classes: int, value: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    # In chunks: one byte per class and image would take gigabytes for a large dataset.
    parts = [value(_unpacked(shown[start : start + SLICE], classes)) for start in range(0, len(shown), SLICE)]
    return np.concatenate(parts)


def _unpacked(shown: Shown, classes: int) -> np.ndarray:
    return np.unpackbits(shown, axis=1, count=classes)


def packed(counts: dict[int, int], classes: int) -> np.ndarray:
    """Return one row of :data:`ClassPresence` from the pixel count of each mask value."""
    row = np.zeros(classes, bool)
    row[[value for value, pixels in counts.items() if pixels and value < classes]] = True
    return np.packbits(row)


def epoch_length(repeats: np.ndarray) -> int:
    """Return the number of samples of an epoch."""
    return max(round(float(repeats.sum())), 1)


def epoch_order(repeats: np.ndarray, rng: Rng) -> np.ndarray:
    """Return the shuffled positions that an epoch uses, :func:`compute_epoch_length` of them.

    This is systematic sampling: no image is used more than one time more or less than its average.
    """
    # Each image is a segment as long as its repeats, in random order; equidistant points pick the segments.
    order, length = rng.permutation(len(repeats)), epoch_length(repeats)
    ends = np.cumsum(repeats[order])
    points = (np.arange(length) + rng.random()) * (ends[-1] / length)
    # Rounding can put the last point beyond the last segment.
    indices = np.searchsorted(ends, points, side="right").clip(max=len(order) - 1)
    return rng.permutation(order[indices])


def occurrences(order: np.ndarray) -> np.ndarray:
    """Return, for each place, how often its value occurs before it."""
    place = np.argsort(order, kind="stable")
    ranked = order[place]
    before = np.empty(len(order), np.int64)
    before[place] = np.arange(len(order)) - np.searchsorted(ranked, ranked)
    return before


REALISATIONS: dict[type[Sampler], Callable[[Any, Shown, int], np.ndarray]] = {
    ClassBalanced: class_balanced,
    RepeatFactor: repeat_factor,
}
"""The implementation of every sampler word."""
