"""Masks whose classes are colours, converted once to index PNG in the cache: looking colours up costs seven times the
reading of an index mask.

A converted mask is found by path, size and time of change of its source, and by the label space.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from segdsl.data.decode.images import decode_mask, has_colors, read_bytes
from segdsl.data.formats.labels import LabelSpace
from segdsl.storage.cache import cache_folder
from segdsl.storage.fact_cache import stamp

VERSION = 2
"""Raised whenever a mask would be converted differently today."""


def read_ids(path: Path, labels: LabelSpace) -> np.ndarray:
    """The mask as ids of the classes that are learnt, uint8 (H, W), from the cache where its colours were looked up
    before. Raises :class:`SegError` that names the file."""
    kept = _place(path, labels) if labels.colors else None
    if kept is not None:
        with contextlib.suppress(OSError, SyntaxError, ValueError), Image.open(kept) as picture:
            return np.array(picture)
    data = read_bytes(path)
    ids = decode_mask(data, path, labels.colors, labels.table)
    if kept is not None and has_colors(data):
        _keep(ids, kept)
    return ids


def _place(path: Path, labels: LabelSpace) -> Path | None:
    found = stamp(path)
    if found is None:
        return None
    key = repr((VERSION, os.fspath(path.absolute()), found, labels.colors, labels.table))
    name = hashlib.blake2b(os.fsencode(key), digest_size=16).hexdigest()
    return cache_folder() / "masks" / "colors" / name[:2] / f"{name}.png"


def _keep(ids: np.ndarray, place: Path) -> None:
    """Writes an index PNG, whole or not at all; a cache that cannot be written is done without."""
    packed = io.BytesIO()
    Image.fromarray(ids).save(packed, "PNG", compress_level=1)
    with contextlib.suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=place.parent, suffix=".part")
        with open(handle, "wb") as file:
            file.write(packed.getvalue())
        Path(name).replace(place)
