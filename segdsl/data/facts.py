"""What one pair of files is, once decoded: sizes, values, hashes. Facts are cached; ``check`` judges them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from segdsl.data.cache import FactCache, stamp
from segdsl.data.images import RGB, Reading, decode_image, decode_mask, read_bytes
from segdsl.data.labels import LabelSpace
from segdsl.data.layout import Subset
from segdsl.diagnostics import Diagnostic, SegError

CHUNK = 64
"""Pairs that are decoded between two reports of progress."""
THREADS = 8


class ImageFacts(NamedTuple):
    """Of the upright image; ``mode`` as in `Picture`, ``orientation`` EXIF's (1: upright), ``digest`` of the file."""

    height: int
    width: int
    mode: str
    orientation: int
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


def pair_facts(subset: Subset, labels: LabelSpace, cache: FactCache, how: Reading = RGB) -> Iterator[PairFacts]:
    """The facts of every pair in order; files are decoded by threads, a bounded number at a time."""
    tag = hashlib.blake2b(repr((labels.colors, labels.table)).encode(), digest_size=6).hexdigest()
    seen = "image" if how == RGB else f"image {how.channels} {how.levels}"
    with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
        for start in range(0, len(subset), CHUNK):
            positions = range(start, min(start + CHUNK, len(subset)))
            images = [_known(cache, subset.image(p), seen) for p in positions]
            masks = [_known(cache, subset.mask(p), tag) for p in positions]
            read_images = pool.map(lambda known: known.value or _read_image(known.path, how), images)
            read_masks = pool.map(lambda known: known.value or _read_mask(known.path, labels), masks)
            for position, image, mask in zip(positions, read_images, read_masks, strict=True):
                _keep(cache, images[position - start], image)
                _keep(cache, masks[position - start], mask)
                yield _joined(position, image, mask)


class _Known(NamedTuple):
    path: Path
    tag: str
    stamp: tuple[int, int] | None
    value: ImageFacts | MaskFacts | None


def _known(cache: FactCache, path: Path, tag: str) -> _Known:
    found = stamp(path)
    value = cache.get(f"{tag}:{_short(path)}", found) if found else None
    if value is None:
        return _Known(path, tag, found, None)
    if tag.startswith("image"):
        return _Known(path, tag, found, ImageFacts(*value))
    height, width, counts, digest = value
    return _Known(path, tag, found, MaskFacts(height, width, {int(k): n for k, n in counts.items()}, digest))


def _short(path: Path) -> str:
    """What tells a file of a data set from the others: its name and those of the two folders above."""
    return "/".join(path.parts[-3:])


def _keep(cache: FactCache, known: _Known, value: ImageFacts | MaskFacts | SegError) -> None:
    if known.value is None and known.stamp and not isinstance(value, SegError):
        cache.put(f"{known.tag}:{_short(known.path)}", known.stamp, value)


def _joined(position: int, image: object, mask: object) -> PairFacts:
    faults = tuple(d for part in (image, mask) if isinstance(part, SegError) for d in part.diagnostics)
    return PairFacts(
        position,
        image if isinstance(image, ImageFacts) else None,
        mask if isinstance(mask, MaskFacts) else None,
        faults,
    )


def _read_image(path: Path, how: Reading) -> ImageFacts | SegError:
    try:
        data = read_bytes(path)
        picture = decode_image(data, path, how)
    except SegError as error:
        return error
    height, width = picture.pixels.shape[:2]
    return ImageFacts(height, width, picture.mode, picture.orientation, _digest(data))


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
