"""What one pair of files is, once decoded: sizes, values, hashes. Facts are cached; ``check`` judges them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from segdsl.data.decode.images import Reading, decode_image, decode_mask, read_bytes
from segdsl.data.formats.labels import LabelSpace
from segdsl.data.formats.layout import Subset
from segdsl.diagnostics import Diagnostic, SegError
from segdsl.storage.fact_cache import FactCache
from segdsl.storage.file_states import blocks, stamps

CHUNK = 64
"""Pairs that are decoded between two reports of progress."""
THREADS = 8


class ImageFacts(NamedTuple):
    """Of the upright image; ``mode`` as in `Picture`, ``orientation`` EXIF's (1: upright), ``digest`` of the file."""

    height: int
    width: int
    mode: str
    orientation: int
    channels: int
    alpha: bool
    bits: int
    low: float
    high: float
    digest: str


class MaskFacts(NamedTuple):
    """``counts`` has the pixels of every value that occurs, ``digest`` is of the ids, however they are stored."""

    height: int
    width: int
    counts: dict[int, int]
    digest: str


@dataclass(frozen=True, slots=True)
class PairFacts:
    """What is known of the pair at ``position``; None where a file could not be decoded, ``faults`` says why."""

    position: int
    image: ImageFacts | None
    mask: MaskFacts | None
    faults: tuple[Diagnostic, ...]


def pair_facts(subset: Subset, labels: LabelSpace, cache: FactCache) -> Iterator[PairFacts]:
    """The facts of every pair in order; files are decoded by threads, a bounded number at a time."""
    tag = hashlib.blake2b(repr((labels.colors, labels.table)).encode(), digest_size=6).hexdigest()
    images = _Files(cache, "image", subset.image_folder, _image_facts, _read_image)
    masks = _Files(cache, tag, subset.mask_folder, _mask_facts, lambda path: _read_mask(path, labels))
    position = 0
    with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
        for names in blocks(subset.images, subset.masks, length=CHUNK):
            facts = (files.read(part, pool) for files, part in zip((images, masks), names, strict=True))
            for image, mask in zip(*facts, strict=True):
                yield _joined(position, image, mask)
                position += 1


class _Files(NamedTuple):
    """Files of one kind in a folder: how facts of them are kept, by ``tag``, and how they are read."""

    cache: FactCache
    tag: str
    folder: Path
    facts: Callable[[Any], ImageFacts | MaskFacts]
    decode: Callable[[Path], ImageFacts | MaskFacts | SegError]

    def read(self, names: np.ndarray, pool: ThreadPoolExecutor) -> Iterator[ImageFacts | MaskFacts | SegError]:
        """The facts of each file in order; what the cache does not know is decoded by ``pool``, and kept."""
        here = [os.fsdecode(name) for name in names.tolist()]
        stamped, keys = stamps(self.folder, names).tolist(), [self._key(name) for name in here]
        known = self.cache.get_all(keys, stamped)
        read = iter(pool.map(self.decode, [self.folder / n for n, k in zip(here, known, strict=True) if k is None]))
        for key, stamp, value in zip(keys, stamped, known, strict=True):
            if value is not None:
                yield self.facts(value)
                continue
            fresh = next(read)
            if stamp[0] >= 0 and not isinstance(fresh, SegError):
                self.cache.put(key, stamp, fresh)
            yield fresh

    def _key(self, name: str) -> str:
        """What tells a file of a data set from the others: its name and those of the two folders above."""
        short = "/".join([*self.folder.parts[-2:], *name.split("/")][-3:])
        return f"{self.tag}:{os.fsencode(short).decode(errors='backslashreplace')}"


def _image_facts(value: Any) -> ImageFacts:
    return ImageFacts(*value)


def _mask_facts(value: Any) -> MaskFacts:
    height, width, counts, digest = value
    return MaskFacts(height, width, {int(k): n for k, n in counts.items()}, digest)


def _joined(position: int, image: object, mask: object) -> PairFacts:
    faults = tuple(d for part in (image, mask) if isinstance(part, SegError) for d in part.diagnostics)
    return PairFacts(
        position,
        image if isinstance(image, ImageFacts) else None,
        mask if isinstance(mask, MaskFacts) else None,
        faults,
    )


MEASURE = Reading(None, None, measure=True)
"""What an image is does not depend on what a model takes: that is held against the facts."""


def _read_image(path: Path) -> ImageFacts | SegError:
    try:
        data = read_bytes(path)
        picture = decode_image(data, path, MEASURE)
    except SegError as error:
        return error
    height, width = picture.pixels.shape[:2]
    return ImageFacts(
        height,
        width,
        picture.mode,
        picture.orientation,
        picture.channels,
        picture.alpha,
        picture.bits,
        *picture.span,
        _digest(data),
    )


def _read_mask(path: Path, labels: LabelSpace) -> MaskFacts | SegError:
    try:
        data = read_bytes(path)
        mask = decode_mask(data, path, labels.colors, labels.table)
    except SegError as error:
        return error
    counts = np.bincount(mask.ravel(), minlength=256)
    values = {int(v): int(counts[v]) for v in np.flatnonzero(counts)}
    return MaskFacts(mask.shape[0], mask.shape[1], values, _digest(mask.tobytes()))


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()
