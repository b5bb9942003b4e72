"""TIFF, as far as Pillow does not read all of it: more channels, more bits, channels in pages, thumbnails in front."""

from __future__ import annotations

import io
import logging
import math
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from segdsl.data.decode.samples import deep_samples
from segdsl.diagnostics import SegError, fail

MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""How a TIFF begins, and a BigTIFF."""
STORED, DEFLATED, PACKED_BITS = (1,), (8, 32946), (32773,)
"""What tifffile unpacks by itself, by the number of the TIFF specification."""
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB = 0, 1, 2
"""Photometric interpretations whose samples are what they say; all others are Pillow's to convert."""
REDUCED, MASK = 1, 4
"""Bits of the type of a page that is not the image itself."""
ALPHA = (1, 2)
"""Kinds of an extra sample that is opacity."""

logging.getLogger("tifffile").setLevel(logging.CRITICAL)
logging.getLogger("PIL").setLevel(logging.CRITICAL + 1)


class Stored(NamedTuple):
    """The samples of an image as a file has them, (H, W, channels), not turned; the last of them may be opacity."""

    samples: np.ndarray
    orientation: int = 1
    alpha: bool = False

    @property
    def mode(self) -> str:
        """Depth and channels: `16 bits x 5`."""
        return f"{8 * self.samples.dtype.itemsize} bits x {self.samples.shape[2]}"


def is_tiff(data: bytes) -> bool:
    """Whether a file begins as a TIFF does."""
    return data[:4] in MARKS


def tiff_image(data: bytes, path: object, most: int) -> Stored | int:
    """The image in a TIFF; the number of its page where Pillow reads all of that.

    Several pages of one channel, alike in all else, are the channels of one image. Raises :class:`SegError` where it is
    damaged, packed in a way that is not known, or would take more than ``most`` bytes.
    """
    import tifffile

    page = None
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            pages = _images([page for page in file.pages if isinstance(page, tifffile.TiffPage)])
            page = pages[0]
            stacked = len(pages) > 1 and all(map(_is_channel, pages)) and len({_kind(p) for p in pages}) == 1
            if not stacked and _is_plain(page):
                return page.index
            _require_room(page, len(pages) if stacked else 1, path, most)
            return _stack(pages, data) if stacked else _single(page, data)
    except SegError:
        raise
    except Exception as error:
        deep = deep_samples(data) if page is not None and page.index == 0 else None
        if page is not None and deep is not None and deep.shape[:2] == (page.imagelength, page.imagewidth):
            return Stored(deep, _turn(page), _has_alpha(page))
        if page is None:
            return 0
        packed = isinstance(error, _Packed) or "imagecodecs" in str(error)
        message = "the TIFF is compressed in a way that is not read" if packed else "the TIFF is truncated or damaged"
        help = "save it without compression, or with deflate" if packed else "copy it again from its source"
        raise fail("image-unknown" if packed else "image-truncated", message, help, path=str(path)) from None


class _Packed(Exception):
    """A page is packed in a way that is not read."""


def _images(pages: Sequence[Any]) -> Sequence[Any]:
    """The pages that are neither a thumbnail nor a mask; all of them where none is left."""
    return [page for page in pages if not int(page.subfiletype) & (REDUCED | MASK)] or pages


def _kind(page: Any) -> tuple[Any, ...]:
    return page.shape, page.dtype, page.bitspersample, int(page.photometric)


def _is_channel(page: Any) -> bool:
    return len(page.shape) == 2 and int(page.photometric) in (WHITE_IS_ZERO, BLACK_IS_ZERO) and page.bitspersample >= 8


def _is_plain(page: Any) -> bool:
    """Whether Pillow reads all of a page."""
    photometric, bits, channels = int(page.photometric), page.bitspersample, page.samplesperpixel
    if photometric not in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB):
        return True
    if channels == 1:
        return bits <= 8
    return bits <= 8 and photometric == RGB and (channels == 3 or (channels == 4 and _has_alpha(page)))


def _has_alpha(page: Any) -> bool:
    extra = [int(kind) for kind in page.extrasamples or ()]
    return bool(extra) and extra[-1] in ALPHA


def _turn(page: Any) -> int:
    tag = page.tags.get(274)
    return int(tag.value) if tag is not None and tag.value in range(1, 9) else 1


def _require_room(page: Any, pages: int, path: object, most: int) -> None:
    if getattr(page, "imagedepth", 1) > 1:
        message = f"the TIFF is a volume of {page.imagedepth} slices"
        raise fail("image-unknown", message, "save one slice a file, or slices as channels", path=str(path))
    size = page.imagelength * page.imagewidth * page.samplesperpixel * pages * page.dtype.itemsize
    if size > most:
        shape = f"{page.imagewidth} x {page.imagelength} pixels of {page.samplesperpixel * pages} channels"
        message = f"the picture has {shape}, which takes {size:,} bytes; at most {most:,} are decoded"
        raise fail("image-too-large", message, "cut it into tiles, or scale it down", path=str(path))


def _stack(pages: Sequence[Any], data: bytes) -> Stored:
    for page in pages:
        _require_bounded(page, data)
    return Stored(np.stack([_as_said(page) for page in pages], axis=2), _turn(pages[0]))


def _single(page: Any, data: bytes) -> Stored:
    _require_bounded(page, data)
    samples = _as_said(page)
    if samples.ndim == 3 and int(page.planarconfig) == 2:
        samples = np.moveaxis(samples, 0, 2)
    samples = samples if samples.ndim == 3 else samples[:, :, None]
    return Stored(samples, _turn(page), _has_alpha(page))


def _as_said(page: Any) -> np.ndarray:
    """The samples of a page, the larger the brighter."""
    samples = page.asarray()
    if int(page.photometric) == WHITE_IS_ZERO and samples.dtype.kind == "u":
        return np.iinfo(samples.dtype).max - samples
    return samples


def _require_bounded(page: Any, data: bytes) -> None:
    """Raises where a part of a page would unfold to more than the header says: tifffile asks for all of it."""
    if page.compression in STORED + PACKED_BITS:
        return
    if page.compression not in DEFLATED:
        raise _Packed
    limit = math.prod(page.chunks) * page.dtype.itemsize
    for start, length in zip(page.dataoffsets, page.databytecounts, strict=True):
        if len(zlib.decompressobj().decompress(data[start : start + length], limit + 1)) > limit:
            raise zlib.error
