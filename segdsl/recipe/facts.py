"""The facts that choices are based on: counts over the dataset, and measurements of a sample of its images and
masks."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from segdsl.data.decode.images import ReadOptions, read_image
from segdsl.data.formats.color_masks import read_class_ids
from segdsl.data.stats.survey import ClassStats, Survey
from segdsl.diagnostics import SegError
from segdsl.ir.values import Range
from segdsl.recipe.choice import Choice

SAMPLE_SIZE = 200
"""Number of training pairs to measure, evenly spaced over the subset."""
GRAY_LEVELS = 2.0
"""An image whose channels differ by less than this many levels on average counts as gray, even if its file is RGB."""


class Offset(NamedTuple):
    """How far a class is below the vertical center of the image, as a share of the height: the mean over the ``images``
    that show it, and the standard error of that mean."""

    mean: float
    error: float
    images: int


NO_OFFSET = Offset(0.0, math.inf, 0)


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
    offset: Offset = NO_OFFSET


@dataclass(frozen=True, slots=True)
class DatasetFacts:
    """Facts of a dataset.

    ``sizes`` are (height, width) of the training images; ``void`` is the share of their pixels that is ignored. Of the
    ``sample_images`` measured, ``color_images`` are not gray. ``channels`` is 3 even if all are gray. ``settings`` of
    `data`, by path, say how to read the dataset.
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
    sample_images: int
    color_images: int
    channels: int = 3
    settings: Mapping[str, Choice] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """The class names by id."""
        return [c.name for c in self.classes]


def collect_facts(survey: Survey, train: str, val: str, settings: Mapping[str, Choice]) -> DatasetFacts:
    """Collect the facts of the two subsets of a survey without errors, which the ``settings`` describe.

    Raises :class:`SegError` for an unreadable file.
    """
    stats = survey.subsets[train]
    sample = measure_subset(survey, train)
    void = stats.get_class(survey.ignore)
    labeled = stats.pixels - void.pixels
    return DatasetFacts(
        format=survey.report.format,
        ignore=survey.ignore,
        classes=tuple(
            _make_class_facts(k, name, stats.get_class(k), labeled, sample) for k, name in enumerate(survey.classes)
        ),
        train=train,
        val=val,
        train_images=stats.images,
        val_images=survey.subsets[val].images,
        sizes=stats.sizes,
        void=void.pixels / stats.pixels,
        sample_images=sample.images,
        color_images=sample.color_images,
        channels=sample.channels,
        settings=settings,
    )


def _make_class_facts(
    class_id: int, name: str, class_stats: ClassStats, labeled: int, sample: PairMeasurements
) -> ClassFacts:
    return ClassFacts(
        name=name,
        share=class_stats.pixels / max(labeled, 1),
        frequency=class_stats.pixels / max(class_stats.class_image_pixels, 1),
        images=class_stats.images,
        width=sample.compute_width(class_id),
        offset=sample.compute_offset(class_id),
    )


class PairMeasurements:
    """Sums over the measured pairs, by mask value."""

    def __init__(self) -> None:
        self.images = self.color_images = 0
        self.channels = 3
        self.area, self.outline = np.zeros(256), np.zeros(256)
        # One mean per image, not per pixel: pixels of one image are not independent measurements.
        self.offsets: list[list[float]] = [[] for _ in range(256)]

    def add_pair(self, image: np.ndarray, mask: np.ndarray, ignore: int) -> None:
        """Measure one pair: an image, uint8 (H, W, C), and its mask, uint8 (H, W)."""
        self.images += 1
        self.channels = image.shape[2]
        self.color_images += bool(measure_color(image) >= GRAY_LEVELS)
        area = np.bincount(mask.ravel(), minlength=256)
        self.area += area
        self.outline += measure_outline(mask, ignore)
        height, width = mask.shape
        rows = np.repeat((np.arange(height) + 0.5) / height - 0.5, width)
        sums = np.bincount(mask.ravel(), weights=rows, minlength=256)
        for value in np.flatnonzero(area):
            self.offsets[value].append(float(sums[value] / area[value]))

    def compute_width(self, value: int) -> float:
        """Return the mean width of the regions with this value, in pixels: the width of a strip, 0.4 times the diameter
        of a disc."""
        # A strip of width w and length l has the area w * l and an outline of about 2 * l, so w = 2 * area /
        # outline.
        return float(2 * self.area[value] / self.outline[value]) if self.outline[value] else math.inf

    def compute_offset(self, value: int) -> Offset:
        """Return how far this value is below the vertical center."""
        offsets = self.offsets[value]
        # The standard error needs two values; an infinite one keeps the offset from ever being significant.
        if len(offsets) < 2:
            return Offset(offsets[0] if offsets else 0.0, math.inf, len(offsets))
        return Offset(float(np.mean(offsets)), float(np.std(offsets, ddof=1)) / math.sqrt(len(offsets)), len(offsets))


def measure_color(image: np.ndarray) -> float:
    """Return the mean difference between the largest and the smallest channel of an image, in levels."""
    return float((image.max(axis=2).astype(np.int16) - image.min(axis=2)).mean())


def measure_outline(mask: np.ndarray, ignore: int) -> np.ndarray:
    """Return, for each of the 256 values, the number of its pixel edges that border another value.

    Borders with ignored pixels and with the edge of the image do not count, because what is behind them is unknown.
    """
    sides = np.zeros(256)
    for one, other in ((mask[1:], mask[:-1]), (mask[:, 1:], mask[:, :-1])):
        differ = (one != other) & (one != ignore) & (other != ignore)
        sides += np.bincount(one[differ], minlength=256) + np.bincount(other[differ], minlength=256)
    return sides


def measure_subset(survey: Survey, subset: str, max_pairs: int = SAMPLE_SIZE) -> PairMeasurements:
    """Measure a sample of the pairs of a subset, evenly spaced. Raises :class:`SegError` for an unreadable file."""
    assert survey.layout is not None and survey.layout.labels is not None
    labels, files, sample = survey.layout.labels, survey.layout.subsets[subset], PairMeasurements()
    for position in pick_evenly(len(files), max_pairs):
        sample.add_pair(
            _read_any_image(files.get_image_path(position), survey.request.read_options.levels),
            read_class_ids(files.get_mask_path(position), labels),
            survey.ignore,
        )
    return sample


def _read_any_image(path: Path, levels: Range | None) -> np.ndarray:
    """Read an image as RGB if possible, otherwise with all its channels."""
    try:
        return read_image(path, ReadOptions(3, levels))
    except SegError as error:
        if error.diagnostics[0].slug != "image-channels":
            raise
    return read_image(path, ReadOptions(None, levels))


def pick_evenly(length: int, max_count: int) -> Sequence[int]:
    """Return at most ``max_count`` positions, evenly spaced over ``length``."""
    return range(length) if length <= max_count else [i * length // max_count for i in range(max_count)]
