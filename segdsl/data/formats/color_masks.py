"""Color masks, converted once to index masks in the cache: looking up colors takes seven times as long as reading ids.

The cache key is the source file's path, size and modification time, and the label space.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from pathlib import Path

import numpy as np
from PIL import Image

from segdsl.data.decode.images import read_bytes
from segdsl.data.decode.masks import decode_mask, has_color_channels
from segdsl.data.formats.labels import LabelSpace
from segdsl.storage.atomic import write_atomically
from segdsl.storage.cache import get_cache_folder
from segdsl.storage.fact_cache import read_stamp

VERSION = 2
"""Increment whenever the conversion changes, so that older cache entries are not found."""


def read_class_ids(path: Path, labels: LabelSpace) -> np.ndarray:
    """Return the mask as training class ids, uint8 (H, W), from the cache if its colors were looked up before.

    Raise :class:`SegError` naming the file if it cannot be read.
    """
    cached = _locate_cache_file(path, labels) if labels.colors else None
    if cached is not None:
        # An entry that is absent or damaged (SyntaxError: Pillow's error for a broken PNG) is converted again.
        with contextlib.suppress(OSError, SyntaxError, ValueError), Image.open(cached, formats=["PNG"]) as image:
            return np.array(image)
    data = read_bytes(path)
    ids = decode_mask(data, path, labels.colors, labels.value_to_id)
    # Index masks decode as fast as a cache entry would: copying them would only fill the disk.
    if cached is not None and has_color_channels(data):
        _write_cache_mask(ids, cached)
    return ids


def _locate_cache_file(path: Path, labels: LabelSpace) -> Path | None:
    state = read_stamp(path)
    if state is None:
        return None
    key = repr((VERSION, os.fspath(path.absolute()), state, labels.colors, labels.value_to_id))
    name = hashlib.blake2b(os.fsencode(key), digest_size=16).hexdigest()
    return get_cache_folder() / "masks" / "colors" / name[:2] / f"{name}.png"


def _write_cache_mask(ids: np.ndarray, target: Path) -> None:
    """Write an index PNG atomically; do nothing if the cache is not writable."""
    packed = io.BytesIO()
    Image.fromarray(ids).save(packed, "PNG", compress_level=1)
    with contextlib.suppress(OSError):
        # Several loader workers may convert the same mask: each writes its own draft, and the last rename wins.
        write_atomically(target, packed.getvalue())
