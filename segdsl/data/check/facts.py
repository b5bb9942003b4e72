"""Facts about pairs of files, found by decoding them: sizes, values, hashes. They are cached, and judged elsewhere."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from segdsl.data.decode.images import ReadOptions, decode_image, read_bytes
from segdsl.data.decode.masks import decode_mask
from segdsl.data.formats.labels import LabelSpace
from segdsl.data.formats.layout import Subset
from segdsl.diagnostics import Diagnostic, SegError
from segdsl.storage.fact_cache import FactCache
from segdsl.storage.file_states import iterate_blocks, read_stamps

CHUNK_PAIRS = 64
"""Pairs decoded at a time: the bound on memory, and the step of the progress display."""
THREADS = 8
"""Maximum number of decoding threads; decoders release the GIL."""


class ImageFacts(NamedTuple):
    """Facts of the upright image; ``mode`` and ``orientation`` as in :class:`ImageData`, ``digest`` of the file."""

    height: int
    width: int
    mode: str
    orientation: int
    channels: int
    has_alpha: bool
    bits: int
    low: float
    high: float
    digest: str


class MaskFacts(NamedTuple):
    """``counts`` has the pixels of each value in the mask; ``digest`` is of the ids, whatever the file format."""

    height: int
    width: int
    counts: dict[int, int]
    digest: str


@dataclass(frozen=True, slots=True)
class PairFacts:
    """Facts of the pair at ``position``; None for a file that cannot be decoded, see ``diagnostics``."""

    position: int
    image: ImageFacts | None
    mask: MaskFacts | None
    diagnostics: tuple[Diagnostic, ...]


def read_pair_facts(subset: Subset, labels: LabelSpace, cache: FactCache) -> Iterator[PairFacts]:
    """Yield the facts of every pair in order, decoding in threads with a bounded number of files in memory."""
    images = _FactReader(cache, "image", subset.image_folder, _parse_image_facts, _read_image_facts)
    masks = _make_mask_reader(subset, labels, cache)
    position = 0
    with _make_pool() as pool:
        for names in iterate_blocks(subset.images, subset.masks, length=CHUNK_PAIRS):
            facts = (files.read_facts(part, pool) for files, part in zip((images, masks), names, strict=True))
            for image, mask in zip(*facts, strict=True):
                yield _join_facts(position, image, mask)
                position += 1


def read_mask_facts(subset: Subset, labels: LabelSpace, cache: FactCache) -> Iterator[MaskFacts | None]:
    """Yield the facts of every mask in order; None for one that cannot be decoded."""
    masks = _make_mask_reader(subset, labels, cache)
    with _make_pool() as pool:
        for (names,) in iterate_blocks(subset.masks, length=CHUNK_PAIRS):
            for facts in masks.read_facts(names, pool):
                yield facts if isinstance(facts, MaskFacts) else None


def _make_pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1))


def _make_mask_reader(subset: Subset, labels: LabelSpace, cache: FactCache) -> _FactReader:
    # Mask facts depend on how values become ids, so the label space is part of the cache key.
    tag = hashlib.blake2b(repr((labels.colors, labels.value_to_id)).encode(), digest_size=6).hexdigest()
    return _FactReader(cache, tag, subset.mask_folder, _parse_mask_facts, lambda path: _read_mask_facts(path, labels))


class _FactReader(NamedTuple):
    """Reads the facts of one kind of file in a folder, from the cache (keys start with ``tag``) or by decoding."""

    cache: FactCache
    tag: str
    folder: Path
    parse: Callable[[Any], ImageFacts | MaskFacts]
    decode: Callable[[Path], ImageFacts | MaskFacts | SegError]

    def read_facts(self, names: np.ndarray, pool: ThreadPoolExecutor) -> Iterator[ImageFacts | MaskFacts | SegError]:
        """Yield the facts of each file in order; decode those that are not cached in ``pool``, and cache them."""
        paths = [os.fsdecode(name) for name in names.tolist()]
        # Stamps are taken before decoding: a file that changes meanwhile is decoded again the next time.
        file_stamps, keys = read_stamps(self.folder, names).tolist(), [self._make_key(name) for name in paths]
        cached = self.cache.get_all(keys, file_stamps)
        missing = [self.folder / path for path, value in zip(paths, cached, strict=True) if value is None]
        decoded = iter(pool.map(self.decode, missing))
        for key, stamp, value in zip(keys, file_stamps, cached, strict=True):
            if value is not None:
                yield self.parse(value)
                continue
            fresh = next(decoded)
            # Errors are not cached: their texts would outlive the version that wrote them.
            if stamp[0] >= 0 and not isinstance(fresh, SegError):
                self.cache.put(key, stamp, fresh)
            yield fresh

    def _make_key(self, name: str) -> str:
        """Return the cache key of a file: its name with the two folders above it, unique within a dataset."""
        short = "/".join([*self.folder.parts[-2:], *name.split("/")][-3:])
        return f"{self.tag}:{os.fsencode(short).decode(errors='backslashreplace')}"


def _parse_image_facts(value: Any) -> ImageFacts:
    return ImageFacts(*value)


def _parse_mask_facts(value: Any) -> MaskFacts:
    # JSON has turned the keys into strings.
    height, width, counts, digest = value
    return MaskFacts(height, width, {int(k): n for k, n in counts.items()}, digest)


def _join_facts(position: int, image: object, mask: object) -> PairFacts:
    faults = tuple(d for part in (image, mask) if isinstance(part, SegError) for d in part.diagnostics)
    return PairFacts(
        position,
        image if isinstance(image, ImageFacts) else None,
        mask if isinstance(mask, MaskFacts) else None,
        faults,
    )


FACT_OPTIONS = ReadOptions(None, None, skip_pixels=True)
"""Facts are those of the file, independent of any model, so that all programs share the cache."""


def _read_image_facts(path: Path) -> ImageFacts | SegError:
    try:
        data = read_bytes(path)
        image = decode_image(data, path, FACT_OPTIONS)
    except SegError as error:
        return error
    height, width = image.pixels.shape[:2]
    return ImageFacts(
        height,
        width,
        image.mode,
        image.orientation,
        image.channels,
        image.has_alpha,
        image.bits,
        *image.value_range,
        _hash_bytes(data),
    )


def _read_mask_facts(path: Path, labels: LabelSpace) -> MaskFacts | SegError:
    try:
        data = read_bytes(path)
        mask = decode_mask(data, path, labels.colors, labels.value_to_id)
    except SegError as error:
        return error
    counts = np.bincount(mask.ravel(), minlength=256)
    values = {int(v): int(counts[v]) for v in np.flatnonzero(counts)}
    return MaskFacts(mask.shape[0], mask.shape[1], values, _hash_bytes(mask.tobytes()))


def _hash_bytes(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()
