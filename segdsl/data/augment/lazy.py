"""Lazily decoded pairs: read completely, or as a window at reduced size if that suffices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from segdsl.data.augment.geometry import crop_window, draw_window
from segdsl.data.augment.sample import AugmentContext, Rng, Sample, resize_image, resize_mask
from segdsl.data.check.index import Index
from segdsl.data.check.pair_findings import (
    describe_unknown_value,
    make_file_change_error,
    make_size_change_error,
    make_size_mismatch_error,
)
from segdsl.data.decode.decoded_cache import (
    IMAGE_KIND,
    MASK_KIND,
    NO_CACHE,
    PixelCache,
    decode_run_lengths,
    encode_run_lengths,
)
from segdsl.data.decode.images import open_reducible_jpeg, read_image
from segdsl.data.decode.jpeg import DECODE_FLAGS, ReducibleJpeg
from segdsl.data.formats.color_masks import read_class_ids
from segdsl.data.formats.layout import Subset
from segdsl.diagnostics import fail
from segdsl.storage.file_states import find_new_write_time
from segdsl.words.augmentations import RandomResizedCrop

Window = tuple[int, int, int, int]
"""Top, left, height and width."""
JPEG_KINDS = {factor: IMAGE_KIND + 1 + place for place, factor in enumerate(DECODE_FLAGS)}
"""Cache kind of a JPEG decoded at each factor."""


@dataclass(frozen=True, slots=True)
class PairReader:
    """Reads the pairs of a subset. Pixels in ``cache`` are not read again; the result is the same either way."""

    index: Index
    subset: Subset
    cache: PixelCache = NO_CACHE

    def open_pair(self, position: int) -> Sample | LazySample:
        """Open the pair at ``position``; a JPEG image is not decoded yet. Raises :class:`SegError` for a bad file."""
        size = self.cache.get_image_size(position)
        if size is not None:
            return LazySample(self, position, size)
        image = self.cache.get_array(position, IMAGE_KIND)
        if image is not None:
            return Sample(image, self.read_mask(position, image.shape[:2]))
        path = self.subset.get_image_path(position)
        file = open_reducible_jpeg(path, self.index.read_options)
        if file is not None:
            self.require_unchanged(position, path)
            self.cache.record_image_size(position, file.size)
            return LazySample(self, position, file.size, file)
        image = read_image(path, self.index.read_options)
        self.require_unchanged(position, path)
        self.cache.put_array(position, IMAGE_KIND, image)
        return Sample(image, self.read_mask(position, image.shape[:2]))

    def read_mask(self, position: int, size: tuple[int, ...]) -> np.ndarray:
        """Read the ids, uint8 (H, W), of the mask of an image of this (height, width). Raises :class:`SegError`."""
        runs = self.cache.get_array(position, MASK_KIND)
        if runs is not None:
            return decode_run_lengths(runs, size)
        path = self.subset.get_mask_path(position)
        mask = read_class_ids(path, self.index.labels)
        if mask.shape != size:
            raise make_size_mismatch_error(path, mask.shape, size)
        require_values(mask, self.index.classes, self.index.ignore, path)
        self.require_unchanged(position, path, column=1)
        # Encoding takes time, so it is skipped if nothing can be stored.
        if self.cache.budget:
            self.cache.put_array(position, MASK_KIND, encode_run_lengths(mask))
        return mask

    def require_unchanged(self, position: int, path: Path, column: int = 0) -> None:
        """Raise :class:`SegError` if the image (``column`` 0) or mask (1) at ``position`` was written since the dataset
        was opened."""
        # The data check was of the old file: the new one might have another size, or values that are no class.
        written = self.index.write_times.get(self.subset.name, [])
        if column < len(written) and (when := find_new_write_time(path, int(written[column][position]))):
            raise make_file_change_error(path, when)

    def read_jpeg(
        self, position: int, size: tuple[int, int], factor: int, file: ReducibleJpeg | None = None
    ) -> np.ndarray:
        """Decode a JPEG of (height, width) ``size`` at that size divided by ``factor``. Raises :class:`SegError`."""
        cached = self.cache.get_array(position, JPEG_KINDS[factor])
        if cached is not None:
            return cached
        path = self.subset.get_image_path(position)
        file = file or open_reducible_jpeg(path, self.index.read_options)
        pixels = None if file is None else file.decode(factor)
        if file is None or pixels is None:
            # Raises the precise error if the file is damaged; otherwise it is a different image now.
            whole = read_image(path, self.index.read_options)
            raise make_size_change_error(path, size, whole.shape)
        if file.size != size:
            raise make_size_change_error(path, size, file.size)
        self.require_unchanged(position, path)
        self.cache.put_array(position, JPEG_KINDS[factor], pixels)
        return pixels


class LazySample(NamedTuple):
    """A pair whose image, a JPEG of (height, width) ``size``, is not decoded yet; ``file`` is set if it was opened."""

    pair_reader: PairReader
    position: int
    size: tuple[int, int]
    file: ReducibleJpeg | None = None

    def decode_fully(self) -> Sample:
        """Decode the pair at full size. Raises :class:`SegError`."""
        image = self.pair_reader.read_jpeg(self.position, self.size, 1, self.file)
        return Sample(image, self.pair_reader.read_mask(self.position, self.size))

    def decode_crop(self, word: RandomResizedCrop, rng: Rng, context: AugmentContext) -> Sample:
        """Apply `RandomResizedCrop`, decoding the image at the smallest size at which the window still covers the
        input.

        Raises :class:`SegError`.
        """
        drawn = draw_window(word, self.size, rng)
        factor = _choose_factor(drawn[2:], context.size)
        place = snap_window(drawn, factor)
        pixels = self.pair_reader.read_jpeg(self.position, self.size, factor, self.file)
        mask = self.pair_reader.read_mask(self.position, self.size)
        top, left, height, width = (edge // factor for edge in place)
        image = pixels[top : top + height, left : left + width]
        labels = crop_window(Sample(mask, mask), *place).mask
        return Sample(resize_image(image, context.size), resize_mask(labels, context.size))


def _choose_factor(size: Sequence[int], target_size: Sequence[int]) -> int:
    """Return the largest factor by which a window of (height, width) ``size`` can shrink and still cover
    ``target_size``."""
    return max((f for f in DECODE_FLAGS if size[0] >= f * target_size[0] and size[1] >= f * target_size[1]), default=1)


def snap_window(window: Window, factor: int) -> Window:
    """Move the edges of a window onto pixel boundaries of the image reduced by ``factor``, so that image and mask
    agree."""
    top, left, height, width = (edge // factor * factor for edge in window)
    return top, left, height, width


def read_sample(index: Index, subset: Subset, position: int) -> Sample:
    """Read the pair at ``position`` and check the size and values of its mask. Raises :class:`SegError`."""
    found = PairReader(index, subset).open_pair(position)
    return found.decode_fully() if isinstance(found, LazySample) else found


def require_values(mask: np.ndarray, classes: Sequence[str], ignore: int, path: Path) -> None:
    """Raise :class:`SegError` if a mask contains a value that is neither a class nor the ignore value."""
    wrong = (mask >= len(classes)) & (mask != ignore)
    if wrong.any():
        raise fail(
            "mask-value-out-of-range", *describe_unknown_value(int(mask[wrong][0]), classes, ignore), path=str(path)
        )
