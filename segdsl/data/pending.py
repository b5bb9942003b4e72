"""Pairs of files on their way to a sample: read whole, or a window of them, at a reduced size if that is enough."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from segdsl.data.converted import read_ids
from segdsl.data.geometry import draw_window, window
from segdsl.data.images import read_image, reducible
from segdsl.data.index import Index
from segdsl.data.jpeg import FACTORS, Reducible
from segdsl.data.layout import Subset
from segdsl.data.mismatch import size_differs, value_message
from segdsl.data.sample import Rng, Sample, Setting, resized
from segdsl.diagnostics import fail
from segdsl.words.augmentations import RandomResizedCrop

Window = tuple[int, int, int, int]
"""Top, left, height and width."""


class Pending(NamedTuple):
    """A pair whose image, a JPEG, is not decoded yet."""

    index: Index
    subset: Subset
    position: int
    image: Reducible

    def whole(self) -> Sample:
        """The pair as it is. Raises :class:`SegError`."""
        return read_sample(self.index, self.subset, self.position)

    def cut(self, word: RandomResizedCrop, rng: Rng, setting: Setting) -> Sample:
        """What `RandomResizedCrop` makes of it: the largest factor at which the window still is as large as the input
        decides the size at which it is decoded. Raises :class:`SegError`."""
        drawn = draw_window(word, self.image.size, rng)
        factor = _factor(drawn[2:], setting.size)
        place = snapped(drawn, factor)
        pixels = self.image.decode(factor)
        path = self.subset.mask(self.position)
        mask = read_ids(path, self.index.labels)
        if pixels is None or mask.shape != self.image.size:
            sample = self.whole()  # which says what is wrong
            return resized(window(sample, *place), setting.size)
        top, left, height, width = (edge // factor for edge in place)
        image = pixels[top : top + height, left : left + width]
        labels = window(Sample(mask, mask), *place).mask
        require_values(labels, self.index.classes, self.index.ignore, path)
        return Sample(resized(Sample(image, image[:, :, 0]), setting.size).image, _nearest(labels, setting.size))


def _factor(size: Sequence[int], wanted: Sequence[int]) -> int:
    """The largest factor by which a window of (height, width) ``size`` may shrink and still cover ``wanted``."""
    return max((f for f in FACTORS if size[0] >= f * wanted[0] and size[1] >= f * wanted[1]), default=1)


def snapped(place: Window, factor: int) -> Window:
    """A window whose edges lie between pixels of the image that is smaller by ``factor``: image and mask then agree."""
    top, left, height, width = (edge // factor * factor for edge in place)
    return top, left, height, width


def _nearest(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return resized(Sample(mask[:, :, None], mask), size).mask


def open_sample(index: Index, subset: Subset, position: int) -> Sample | Pending:
    """The pair at ``position``, not decoded yet where its image is a JPEG. Raises :class:`SegError`."""
    image = reducible(subset.image(position), index.reading)
    return read_sample(index, subset, position) if image is None else Pending(index, subset, position, image)


def read_sample(index: Index, subset: Subset, position: int) -> Sample:
    """The decoded pair at ``position``, with the mask's size and values checked. Raises :class:`SegError`."""
    image = read_image(subset.image(position), index.reading)
    path = subset.mask(position)
    mask = read_ids(path, index.labels)
    if mask.shape != image.shape[:2]:
        raise size_differs(path, mask.shape, image.shape)
    require_values(mask, index.classes, index.ignore, path)
    return Sample(image, mask)


def require_values(mask: np.ndarray, classes: Sequence[str], ignore: int, path: Path) -> None:
    """Raises :class:`SegError` where a mask holds what is neither a class nor void."""
    wrong = (mask >= len(classes)) & (mask != ignore)
    if wrong.any():
        raise fail("mask-value-out-of-range", *value_message(int(mask[wrong][0]), classes, ignore), path=str(path))
