"""Samplers: which images an epoch uses, and how often."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from segdsl.data.augment.sample import Rng
from segdsl.ir.program import Sampler
from segdsl.words.samplers import ClassBalanced, RepeatFactor

ClassPresence = np.ndarray
"""Whether each image shows each class: one bit per class, packed to uint8 (images, ceil(classes / 8))."""
CHUNK_IMAGES = 1 << 16
"""Number of images to unpack at once."""


def compute_repeats(word: Sampler, class_presence: ClassPresence, classes: int) -> np.ndarray:
    """Return how often an epoch uses each image on average, float64 (images,)."""
    return SAMPLERS[type(word)](word, class_presence, classes)


def compute_balanced_repeats(word: ClassBalanced, class_presence: ClassPresence, classes: int) -> np.ndarray:
    """Return the repeats of `ClassBalanced`: each class that occurs gives an equal share of the epoch to its images."""
    images = _count_images(class_presence, classes)
    share = np.divide(1.0, images, out=np.zeros(classes), where=images > 0) / max(np.count_nonzero(images), 1)
    weights = _map_images(class_presence, classes, lambda part: part @ share)
    return weights * len(class_presence) if weights.any() else np.ones(len(class_presence))


def compute_repeat_factors(word: RepeatFactor, class_presence: ClassPresence, classes: int) -> np.ndarray:
    """Return the repeats of `RepeatFactor`: the largest factor of the classes in the image, at least 1."""
    frequency = np.maximum(_count_images(class_presence, classes), 1) / len(class_presence)
    factor = np.maximum(np.sqrt(word.threshold / frequency), 1.0)
    return _map_images(class_presence, classes, lambda part: np.maximum((part * factor).max(axis=1), 1.0))


def _count_images(class_presence: ClassPresence, classes: int) -> np.ndarray:
    """Return the number of images that show each class."""
    counts = np.zeros(classes, np.int64)
    for start in range(0, len(class_presence), CHUNK_IMAGES):
        counts += _unpack_presence(class_presence[start : start + CHUNK_IMAGES], classes).sum(axis=0, dtype=np.int64)
    return counts


def _map_images(
    class_presence: ClassPresence, classes: int, function: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    # In chunks: one byte per class and image would take gigabytes for a large dataset.
    parts = [
        function(_unpack_presence(class_presence[start : start + CHUNK_IMAGES], classes))
        for start in range(0, len(class_presence), CHUNK_IMAGES)
    ]
    return np.concatenate(parts)


def _unpack_presence(class_presence: ClassPresence, classes: int) -> np.ndarray:
    return np.unpackbits(class_presence, axis=1, count=classes)


def pack_presence(counts: dict[int, int], classes: int) -> np.ndarray:
    """Return one row of :data:`ClassPresence` from the pixel count of each mask value."""
    row = np.zeros(classes, bool)
    row[[value for value, pixels in counts.items() if pixels and value < classes]] = True
    return np.packbits(row)


def compute_epoch_length(repeats: np.ndarray) -> int:
    """Return the number of samples of an epoch."""
    return max(round(float(repeats.sum())), 1)


def draw_epoch_order(repeats: np.ndarray, rng: Rng) -> np.ndarray:
    """Return the shuffled positions that an epoch uses, :func:`compute_epoch_length` of them.

    This is systematic sampling: no image is used more than one time more or less than its average.
    """
    # Each image is a segment as long as its repeats, in random order; equidistant points pick the segments.
    order, length = rng.permutation(len(repeats)), compute_epoch_length(repeats)
    ends = np.cumsum(repeats[order])
    points = (np.arange(length) + rng.random()) * (ends[-1] / length)
    # Rounding can put the last point beyond the last segment.
    indices = np.searchsorted(ends, points, side="right").clip(max=len(order) - 1)
    return rng.permutation(order[indices])


def count_occurrences(order: np.ndarray) -> np.ndarray:
    """Return, for each place, how often its value occurs before it."""
    place = np.argsort(order, kind="stable")
    ranked = order[place]
    before = np.empty(len(order), np.int64)
    before[place] = np.arange(len(order)) - np.searchsorted(ranked, ranked)
    return before


SAMPLERS: dict[type[Sampler], Callable[[Any, ClassPresence, int], np.ndarray]] = {
    ClassBalanced: compute_balanced_repeats,
    RepeatFactor: compute_repeat_factors,
}
"""The implementation of every sampler word."""
