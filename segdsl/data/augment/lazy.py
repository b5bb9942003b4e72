"""Pairs of files on their way to a sample: read whole, or a window of them, at a reduced size if that is enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from segdsl.data.augment.geometry import draw_window, window
from segdsl.data.augment.sample import Rng, Sample, Setting, resized_image, resized_mask
from segdsl.data.check.index import Index
from segdsl.data.check.pair_findings import file_written, size_changed, size_differs, value_message
from segdsl.data.decode.decoded_cache import MASK, NOTHING, WHOLE, DecodedCache, from_run_lengths, run_lengths
from segdsl.data.decode.images import read_image, reducible
from segdsl.data.decode.jpeg import FACTORS, Reducible
from segdsl.data.formats.color_masks import read_ids
from segdsl.data.formats.layout import Subset
from segdsl.diagnostics import fail
from segdsl.storage.file_states import written_since
from segdsl.words.augmentations import RandomResizedCrop

Window = tuple[int, int, int, int]
"""Top, left, height and width."""
KIND = {factor: WHOLE + 1 + place for place, factor in enumerate(FACTORS)}
"""Under which kind a JPEG is kept that was decoded at a factor."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """The pairs of a subset. What ``memory`` keeps is not read again, and is the same as if it were."""

    index: Index
    subset: Subset
    memory: DecodedCache = NOTHING

    def open(self, position: int) -> Sample | Pending:
        """The pair at ``position``, not decoded yet where its image is a JPEG. Raises :class:`SegError`."""
        size = self.memory.size(position)
        if size is not None:
            return Pending(self, position, size)
        image = self.memory.get(position, WHOLE)
        if image is not None:
            return Sample(image, self.mask(position, image.shape[:2]))
        path = self.subset.image(position)
        file = reducible(path, self.index.reading)
        if file is not None:
            self.require_unchanged(position, path)
            self.memory.note_size(position, file.size)
            return Pending(self, position, file.size, file)
        image = read_image(path, self.index.reading)
        self.require_unchanged(position, path)
        self.memory.put(position, WHOLE, image)
        return Sample(image, self.mask(position, image.shape[:2]))

    def mask(self, position: int, size: tuple[int, ...]) -> np.ndarray:
        """The ids, uint8 (H, W), of the mask of an image of this (height, width). Raises :class:`SegError`."""
        kept = self.memory.get(position, MASK)
        if kept is not None:
            return from_run_lengths(kept, size)
        path = self.subset.mask(position)
        mask = read_ids(path, self.index.labels)
        if mask.shape != size:
            raise size_differs(path, mask.shape, size)
        require_values(mask, self.index.classes, self.index.ignore, path)
        self.require_unchanged(position, path, column=1)
        if self.memory.budget:
            self.memory.put(position, MASK, run_lengths(mask))
        return mask

    def require_unchanged(self, position: int, path: Path, column: int = 0) -> None:
        """Raises :class:`SegError` where the file of the image (``column`` 0) or of the mask (1) at ``position`` was
        written since the data set was opened: what was checked then is another file."""
        written = self.index.written.get(self.subset.name, [])
        if column < len(written) and (when := written_since(path, int(written[column][position]))):
            raise file_written(path, when)

    def jpeg(self, position: int, size: tuple[int, int], factor: int, file: Reducible | None = None) -> np.ndarray:
        """A JPEG of (height, width) ``size`` decoded at that divided by ``factor``. Raises :class:`SegError`."""
        kept = self.memory.get(position, KIND[factor])
        if kept is not None:
            return kept
        path = self.subset.image(position)
        file = file or reducible(path, self.index.reading)
        pixels = None if file is None else file.decode(factor)
        if file is None or pixels is None:
            whole = read_image(path, self.index.reading)  # which says what is wrong, if it is not that it is another
            raise size_changed(path, size, whole.shape)
        if file.size != size:
            raise size_changed(path, size, file.size)
        self.require_unchanged(position, path)
        self.memory.put(position, KIND[factor], pixels)
        return pixels


class Pending(NamedTuple):
    """A pair whose image, a JPEG of (height, width) ``size``, is not decoded yet; its ``file``, if it was opened."""

    pairs: Pairs
    position: int
    size: tuple[int, int]
    file: Reducible | None = None

    def whole(self) -> Sample:
        """The pair as it is. Raises :class:`SegError`."""
        image = self.pairs.jpeg(self.position, self.size, 1, self.file)
        return Sample(image, self.pairs.mask(self.position, self.size))

    def cut(self, word: RandomResizedCrop, rng: Rng, setting: Setting) -> Sample:
        """What `RandomResizedCrop` makes of it: the largest factor at which the window still is as large as the input
        decides the size at which it is decoded. Raises :class:`SegError`."""
        drawn = draw_window(word, self.size, rng)
        factor = _factor(drawn[2:], setting.size)
        place = snapped(drawn, factor)
        pixels = self.pairs.jpeg(self.position, self.size, factor, self.file)
        mask = self.pairs.mask(self.position, self.size)
        top, left, height, width = (edge // factor for edge in place)
        image = pixels[top : top + height, left : left + width]
        labels = window(Sample(mask, mask), *place).mask
        return Sample(resized_image(image, setting.size), resized_mask(labels, setting.size))


def _factor(size: Sequence[int], wanted: Sequence[int]) -> int:
    """The largest factor by which a window of (height, width) ``size`` may shrink and still cover ``wanted``."""
    return max((f for f in FACTORS if size[0] >= f * wanted[0] and size[1] >= f * wanted[1]), default=1)


def snapped(place: Window, factor: int) -> Window:
    """A window whose edges lie between pixels of the image that is smaller by ``factor``: image and mask then agree."""
    top, left, height, width = (edge // factor * factor for edge in place)
    return top, left, height, width


def read_sample(index: Index, subset: Subset, position: int) -> Sample:
    """The decoded pair at ``position``, with the mask's size and values checked. Raises :class:`SegError`."""
    found = Pairs(index, subset).open(position)
    return found.whole() if isinstance(found, Pending) else found


def require_values(mask: np.ndarray, classes: Sequence[str], ignore: int, path: Path) -> None:
    """Raises :class:`SegError` where a mask holds what is neither a class nor void."""
    wrong = (mask >= len(classes)) & (mask != ignore)
    if wrong.any():
        raise fail("mask-value-out-of-range", *value_message(int(mask[wrong][0]), classes, ignore), path=str(path))
