"""The facts that choices are based on: counts over the dataset, and measurements of a sample of its images and
masks."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from segdsl.data.decode.images import RGB, Reading, read_image
from segdsl.data.formats.color_masks import read_ids
from segdsl.data.stats.survey import ClassStats, Survey
from segdsl.diagnostics import SegError

SAMPLED = 200
"""Number of training pairs to measure, evenly spaced over the subset."""
COLORLESS = 2.0
"""An image whose channels differ by less than this many levels on average counts as gray, even if its file is RGB."""


class Offset(NamedTuple):
    """How far a class is below the vertical center of the image, as a share of the height: the mean over the ``images``
    that show it, and the standard error of that mean."""

    mean: float
    error: float
    images: int


MIDDLE = Offset(0.0, math.inf, 0)


@dataclass(frozen=True, slots=True)
class ClassFacts:
    """One class in the training subset.

    ``share`` is its share of all labeled pixels, and ``frequency`` its share of the labeled pixels of the images that
    show it; ``images`` is the number of these images. ``width`` is its mean width in pixels, infinite if it has no
    outline.
    """

    name: str
    share: float
    frequency: float = 0.0
    images: int = 0
    width: float = math.inf
    offset: Offset = MIDDLE


@dataclass(frozen=True, slots=True)
class SetFacts:
    """Facts of a dataset.

    ``sizes`` are (height, width) of the training images; ``void`` is the share of their pixels that is ignored. Of the
    ``sample_images`` measured, ``color_images`` are not gray. ``channels`` is 3 even if all are gray. ``background`` is
    the class of pixels without an annotation, if the user named one.
    """

    format: str
    ignore: int
    classes: tuple[ClassFacts, ...]
    train: str
    val: str
    train_images: int
    val_images: int
    sizes: Counter[tuple[int, int]]
    void: float
    sampled: int
    colored: int
    channels: int = 3
    background: str | None = None

    @property
    def names(self) -> list[str]:
        """The class names by id."""
        return [c.name for c in self.classes]


def facts_of(found: Survey, train: str, val: str) -> SetFacts:
    """Collect the facts of the two subsets of a survey without errors. Raises :class:`SegError` for an unreadable
    file."""
    stats = found.subsets[train]
    sample = measured(found, train)
    void = stats.of(found.ignore)
    labeled = stats.pixels - void.pixels
    return SetFacts(
        format=found.report.format,
        ignore=found.ignore,
        classes=tuple(_class_facts(k, name, stats.of(k), labeled, sample) for k, name in enumerate(found.classes)),
        train=train,
        val=val,
        train_images=stats.images,
        val_images=found.subsets[val].images,
        sizes=stats.sizes,
        void=void.pixels / stats.pixels,
        sampled=sample.images,
        colored=sample.colored,
        channels=sample.channels,
        background=found.asked.background,
    )


def _class_facts(k: int, name: str, counted: ClassStats, labeled: int, sample: Sample) -> ClassFacts:
    return ClassFacts(
        name=name,
        share=counted.pixels / max(labeled, 1),
        frequency=counted.pixels / max(counted.within, 1),
        images=counted.images,
        width=sample.width(k),
        offset=sample.offset(k),
    )


class Sample:
    """Sums over the measured pairs, by mask value."""

    def __init__(self) -> None:
        self.images = self.colored = 0
        self.channels = 3
        self.area, self.outline = np.zeros(256), np.zeros(256)
        # One mean per image, not per pixel: pixels of one image are not independent measurements.
        self.offsets: list[list[float]] = [[] for _ in range(256)]

    def add(self, image: np.ndarray, mask: np.ndarray, ignore: int) -> None:
        """Measure one pair: an image, uint8 (H, W, C), and its mask, uint8 (H, W)."""
        self.images += 1
        self.channels = image.shape[2]
        self.colored += bool(color_of(image) >= COLORLESS)
        area = np.bincount(mask.ravel(), minlength=256)
        self.area += area
        self.outline += outline_of(mask, ignore)
        height, width = mask.shape
        rows = np.repeat((np.arange(height) + 0.5) / height - 0.5, width)
        sums = np.bincount(mask.ravel(), weights=rows, minlength=256)
        for value in np.flatnonzero(area):
            self.offsets[value].append(float(sums[value] / area[value]))

    def width(self, value: int) -> float:
        """Return the mean width of the regions with this value, in pixels: the width of a strip, 0.4 times the diameter
        of a disc."""
        # A strip of width w and length l has the area w * l and an outline of about 2 * l, so w = 2 * area /
        # outline.
        return float(2 * self.area[value] / self.outline[value]) if self.outline[value] else math.inf

    def offset(self, value: int) -> Offset:
        """Return how far this value is below the vertical center."""
        offsets = self.offsets[value]
        # The standard error needs two values; an infinite one keeps the offset from ever being significant.
        if len(offsets) < 2:
            return Offset(offsets[0] if offsets else 0.0, math.inf, len(offsets))
        return Offset(float(np.mean(offsets)), float(np.std(offsets, ddof=1)) / math.sqrt(len(offsets)), len(offsets))


def color_of(image: np.ndarray) -> float:
    """Return the mean difference between the largest and the smallest channel of an image, in levels."""
    return float((image.max(axis=2).astype(np.int16) - image.min(axis=2)).mean())


def outline_of(mask: np.ndarray, ignore: int) -> np.ndarray:
    """Return, for each of the 256 values, the number of its pixel edges that border another value.

    Borders with ignored pixels and with the edge of the image do not count, because what is behind them is unknown.
    """
    sides = np.zeros(256)
    for one, other in ((mask[1:], mask[:-1]), (mask[:, 1:], mask[:, :-1])):
        differ = (one != other) & (one != ignore) & (other != ignore)
        sides += np.bincount(one[differ], minlength=256) + np.bincount(other[differ], minlength=256)
    return sides


def measured(found: Survey, subset: str, most: int = SAMPLED) -> Sample:
    """Measure a sample of the pairs of a subset, evenly spaced. Raises :class:`SegError` for an unreadable file."""
    assert found.layout is not None and found.layout.labels is not None
    labels, files, sample = found.layout.labels, found.layout.subsets[subset], Sample()
    for position in evenly(len(files), most):
        sample.add(_image(files.image(position)), read_ids(files.mask(position), labels), found.ignore)
    return sample


def _image(path: Path) -> np.ndarray:
    """Read an image as RGB if possible, otherwise with all its channels."""
    try:
        return read_image(path, RGB)
    except SegError as error:
        if error.diagnostics[0].slug != "image-channels":
            raise
    return read_image(path, Reading(None))


def evenly(length: int, most: int) -> Sequence[int]:
    """Return at most ``max_count`` positions, evenly spaced over ``length``."""
    return range(length) if length <= most else [i * length // most for i in range(most)]
