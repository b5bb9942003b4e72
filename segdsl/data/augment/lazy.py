"""Lazily decoded pairs: read completely, or as a window at reduced size if that suffices."""

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
"""Cache kind of a JPEG decoded at each factor."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """Reads the pairs of a subset. Pixels in ``cache`` are not read again; the result is the same either way."""

    index: Index
    subset: Subset
    memory: DecodedCache = NOTHING

    def open(self, position: int) -> Sample | Pending:
        """Open the pair at ``position``; a JPEG image is not decoded yet. Raises :class:`SegError` for a bad file."""
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
        """Read the ids, uint8 (H, W), of the mask of an image of this (height, width). Raises :class:`SegError`."""
        runs = self.memory.get(position, MASK)
        if runs is not None:
            return from_run_lengths(runs, size)
        path = self.subset.mask(position)
        mask = read_ids(path, self.index.labels)
        if mask.shape != size:
            raise size_differs(path, mask.shape, size)
        require_values(mask, self.index.classes, self.index.ignore, path)
        self.require_unchanged(position, path, column=1)
        # Encoding takes time, so it is skipped if nothing can be stored.
        if self.memory.budget:
            self.memory.put(position, MASK, run_lengths(mask))
        return mask

    def require_unchanged(self, position: int, path: Path, column: int = 0) -> None:
        """Raise :class:`SegError` if the image (``column`` 0) or mask (1) at ``position`` was written since the dataset
        was opened."""
        # The data check was of the old file: the new one might have another size, or values that are no class.
        written = self.index.written.get(self.subset.name, [])
        if column < len(written) and (when := written_since(path, int(written[column][position]))):
            raise file_written(path, when)

    def jpeg(self, position: int, size: tuple[int, int], factor: int, file: Reducible | None = None) -> np.ndarray:
        """Decode a JPEG of (height, width) ``size`` at that size divided by ``factor``. Raises :class:`SegError`."""
        cached = self.memory.get(position, KIND[factor])
        if cached is not None:
            return cached
        path = self.subset.image(position)
        file = file or reducible(path, self.index.reading)
        pixels = None if file is None else file.decode(factor)
        if file is None or pixels is None:
            # Raises the precise error if the file is damaged; otherwise it is a different image now.
            whole = read_image(path, self.index.reading)
            raise size_changed(path, size, whole.shape)
        if file.size != size:
            raise size_changed(path, size, file.size)
        self.require_unchanged(position, path)
        self.memory.put(position, KIND[factor], pixels)
        return pixels


class Pending(NamedTuple):
    """A pair whose image, a JPEG of (height, width) ``size``, is not decoded yet; ``file`` is set if it was opened."""

    pairs: Pairs
    position: int
    size: tuple[int, int]
    file: Reducible | None = None

    def whole(self) -> Sample:
        """Decode the pair at full size. Raises :class:`SegError`."""
        image = self.pairs.jpeg(self.position, self.size, 1, self.file)
        return Sample(image, self.pairs.mask(self.position, self.size))

    def cut(self, word: RandomResizedCrop, rng: Rng, setting: Setting) -> Sample:
        """Apply `RandomResizedCrop`, decoding the image at the smallest size at which the window still covers the
        input.

        Raises :class:`SegError`.
        """
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
    """Return the largest factor by which a window of (height, width) ``size`` can shrink and still cover
    ``target_size``."""
    return max((f for f in FACTORS if size[0] >= f * wanted[0] and size[1] >= f * wanted[1]), default=1)


def snapped(place: Window, factor: int) -> Window:
    """Move the edges of a window onto pixel boundaries of the image reduced by ``factor``, so that image and mask
    agree."""
    top, left, height, width = (edge // factor * factor for edge in place)
    return top, left, height, width


def read_sample(index: Index, subset: Subset, position: int) -> Sample:
    """Read the pair at ``position`` and check the size and values of its mask. Raises :class:`SegError`."""
    found = Pairs(index, subset).open(position)
    return found.whole() if isinstance(found, Pending) else found


def require_values(mask: np.ndarray, classes: Sequence[str], ignore: int, path: Path) -> None:
    """Raise :class:`SegError` if a mask contains a value that is neither a class nor the ignore value."""
    wrong = (mask >= len(classes)) & (mask != ignore)
    if wrong.any():
        raise fail("mask-value-out-of-range", *value_message(int(mask[wrong][0]), classes, ignore), path=str(path))
