"""What decisions are made on: the counts of a data set, and what a sample of its images and masks looks like."""

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
"""Pairs of the training subset that are measured, in even steps."""
COLORLESS = 2.0
"""An image whose channels differ by fewer levels than this on average is grey, whatever its file says."""


class Offset(NamedTuple):
    """How far below the middle of the image a class lies, as a share of the height: the mean over the ``images`` that
    show it, and the standard error of that mean."""

    mean: float
    error: float
    images: int


MIDDLE = Offset(0.0, math.inf, 0)


@dataclass(frozen=True, slots=True)
class ClassFacts:
    """A class in the training subset: its share of all labelled pixels, its share of those of the images that show it
    (``frequency``), the images that show it, its mean width in pixels (inf where it has no outline), its offset."""

    name: str
    share: float
    frequency: float = 0.0
    images: int = 0
    width: float = math.inf
    offset: Offset = MIDDLE


@dataclass(frozen=True, slots=True)
class SetFacts:
    """A data set as decisions see it. ``sizes`` are (height, width) of the training images, ``void`` is the share of
    their pixels, ``colored`` of the ``sampled`` images are not grey; ``channels`` is 3 also where they are grey, and
    ``background`` the class of what no annotation covers, where it was named."""

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
        """The names of the classes by id."""
        return [c.name for c in self.classes]


def facts_of(found: Survey, train: str, val: str) -> SetFacts:
    """The facts of a survey without errors of these two subsets. Raises :class:`SegError` for an unreadable file."""
    stats = found.subsets[train]
    sample = measured(found, train)
    void = stats.of(found.ignore)
    labelled = stats.pixels - void.pixels
    return SetFacts(
        format=found.report.format,
        ignore=found.ignore,
        classes=tuple(_class_facts(k, name, stats.of(k), labelled, sample) for k, name in enumerate(found.classes)),
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


def _class_facts(k: int, name: str, counted: ClassStats, labelled: int, sample: Sample) -> ClassFacts:
    return ClassFacts(
        name=name,
        share=counted.pixels / max(labelled, 1),
        frequency=counted.pixels / max(counted.within, 1),
        images=counted.images,
        width=sample.width(k),
        offset=sample.offset(k),
    )


class Sample:
    """Sums over the pairs that were measured, by mask value."""

    def __init__(self) -> None:
        self.images = self.colored = 0
        self.channels = 3
        self.area, self.outline = np.zeros(256), np.zeros(256)
        self.offsets: list[list[float]] = [[] for _ in range(256)]

    def add(self, image: np.ndarray, mask: np.ndarray, ignore: int) -> None:
        """Measures one pair: uint8 (H, W, C) and uint8 (H, W)."""
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
        """The mean width of what is of this value, in pixels: for a strip its width, for a disc 0.4 of its diameter."""
        return float(2 * self.area[value] / self.outline[value]) if self.outline[value] else math.inf

    def offset(self, value: int) -> Offset:
        """How far below the middle it lies."""
        offsets = self.offsets[value]
        if len(offsets) < 2:
            return Offset(offsets[0] if offsets else 0.0, math.inf, len(offsets))
        return Offset(float(np.mean(offsets)), float(np.std(offsets, ddof=1)) / math.sqrt(len(offsets)), len(offsets))


def color_of(image: np.ndarray) -> float:
    """By how many levels the channels of an image differ, on average."""
    return float((image.max(axis=2).astype(np.int16) - image.min(axis=2)).mean())


def outline_of(mask: np.ndarray, ignore: int) -> np.ndarray:
    """For each of the 256 values, the sides of its pixels that another value lies behind. Void and the edge of the
    image are no other value: what is behind them is not known."""
    sides = np.zeros(256)
    for one, other in ((mask[1:], mask[:-1]), (mask[:, 1:], mask[:, :-1])):
        differ = (one != other) & (one != ignore) & (other != ignore)
        sides += np.bincount(one[differ], minlength=256) + np.bincount(other[differ], minlength=256)
    return sides


def measured(found: Survey, subset: str, most: int = SAMPLED) -> Sample:
    """A sample of the pairs of a subset, in even steps. Raises :class:`SegError` for a file that cannot be read."""
    assert found.layout is not None and found.layout.labels is not None
    labels, files, sample = found.layout.labels, found.layout.subsets[subset], Sample()
    for position in evenly(len(files), most):
        sample.add(_image(files.image(position)), read_ids(files.mask(position), labels), found.ignore)
    return sample


def _image(path: Path) -> np.ndarray:
    """An image as RGB where it can be that, else with all its channels."""
    try:
        return read_image(path, RGB)
    except SegError as error:
        if error.diagnostics[0].slug != "image-channels":
            raise
    return read_image(path, Reading(None))


def evenly(length: int, most: int) -> Sequence[int]:
    """At most ``most`` positions in even steps."""
    return range(length) if length <= most else [i * length // most for i in range(most)]
