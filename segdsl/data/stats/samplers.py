"""Which images an epoch uses, and how often: in plain order of chance, or by the classes that they show."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from segdsl.data.augment.sample import Rng
from segdsl.ir.program import Sampler
from segdsl.words.samplers import ClassBalanced, RepeatFactor

Shown = np.ndarray
"""Whether an image shows a class: one bit each, packed to uint8 (images, ceil(classes / 8))."""
SLICE = 1 << 16
"""Images that are unpacked at once."""


def repeats(word: Sampler, shown: Shown, classes: int) -> np.ndarray:
    """How often an epoch uses each image on average, float64 (images,)."""
    return REALISATIONS[type(word)](word, shown, classes)


def class_balanced(word: ClassBalanced, shown: Shown, classes: int) -> np.ndarray:
    """`ClassBalanced`: each of the classes that occur gives an equal share of an epoch to the images that show it."""
    images = _images(shown, classes)
    share = np.divide(1.0, images, out=np.zeros(classes), where=images > 0) / max(np.count_nonzero(images), 1)
    wanted = _by_image(shown, classes, lambda part: part @ share)
    return wanted * len(shown) if wanted.any() else np.ones(len(shown))


def repeat_factor(word: RepeatFactor, shown: Shown, classes: int) -> np.ndarray:
    """`RepeatFactor`: the largest factor of the classes that an image shows, 1 at least."""
    frequency = np.maximum(_images(shown, classes), 1) / len(shown)
    factor = np.maximum(np.sqrt(word.threshold / frequency), 1.0)
    return _by_image(shown, classes, lambda part: np.maximum((part * factor).max(axis=1), 1.0))


def _images(shown: Shown, classes: int) -> np.ndarray:
    """How many images show each class."""
    counts = np.zeros(classes, np.int64)
    for start in range(0, len(shown), SLICE):
        counts += _unpacked(shown[start : start + SLICE], classes).sum(axis=0, dtype=np.int64)
    return counts


def _by_image(shown: Shown, classes: int, value: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    parts = [value(_unpacked(shown[start : start + SLICE], classes)) for start in range(0, len(shown), SLICE)]
    return np.concatenate(parts)


def _unpacked(shown: Shown, classes: int) -> np.ndarray:
    return np.unpackbits(shown, axis=1, count=classes)


def packed(counts: dict[int, int], classes: int) -> np.ndarray:
    """A row of :data:`Shown`, from the pixels of each mask value."""
    row = np.zeros(classes, bool)
    row[[value for value, pixels in counts.items() if pixels and value < classes]] = True
    return np.packbits(row)


def epoch_length(repeats: np.ndarray) -> int:
    """How many samples an epoch has."""
    return max(round(float(repeats.sum())), 1)


def epoch_order(repeats: np.ndarray, rng: Rng) -> np.ndarray:
    """The positions that an epoch uses, shuffled, :func:`epoch_length` of them.

    Points at equal distance are laid over the images, which stand in an order of chance, each as wide as it is to be
    used (systematic sampling): none is used more than one time more or less than on average.
    """
    order, length = rng.permutation(len(repeats)), epoch_length(repeats)
    ends = np.cumsum(repeats[order])
    points = (np.arange(length) + rng.random()) * (ends[-1] / length)
    picked = np.searchsorted(ends, points, side="right").clip(max=len(order) - 1)
    return rng.permutation(order[picked])


def occurrences(order: np.ndarray) -> np.ndarray:
    """How often the value at each place occurs before it."""
    place = np.argsort(order, kind="stable")
    ranked = order[place]
    before = np.empty(len(order), np.int64)
    before[place] = np.arange(len(order)) - np.searchsorted(ranked, ranked)
    return before


REALISATIONS: dict[type[Sampler], Callable[[Any, Shown, int], np.ndarray]] = {
    ClassBalanced: class_balanced,
    RepeatFactor: repeat_factor,
}
"""The realisation of every sampler."""
