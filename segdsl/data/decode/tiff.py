"""TIFF files that Pillow reads only in part: more channels or bits, one channel per page, thumbnails first."""

from __future__ import annotations

import io
import logging
import math
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from segdsl.data.decode.samples import decode_deep_samples
from segdsl.diagnostics import SegError, fail

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""First four bytes of a TIFF or BigTIFF, in either byte order."""
NO_COMPRESSION, DEFLATE, PACKBITS = (1,), (8, 32946), (32773,)
"""Compression schemes that tifffile decodes without imagecodecs, by their numbers in TIFF."""
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB = 0, 1, 2
"""Photometric interpretations used as they are; Pillow converts all others to RGB."""
THUMBNAIL_BIT, MASK_BIT = 1, 4
"""Bits of NewSubfileType on pages that are not the image itself."""
ALPHA_KINDS = (1, 2)
"""Values of ExtraSamples that mean opacity: associated and unassociated alpha."""

# Both libraries log oddities of a file to stderr, among our own output; what matters becomes a diagnostic here.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)
logging.getLogger("PIL").setLevel(logging.CRITICAL + 1)


class RawSamples(NamedTuple):
    """The samples of an image as stored, (H, W, channels), before EXIF orientation; the last channel may be alpha."""

    samples: np.ndarray
    orientation: int = 1
    has_alpha: bool = False

    @property
    def mode(self) -> str:
        """Depth and channel count, such as `16 bits x 5`."""
        return f"{8 * self.samples.dtype.itemsize} bits x {self.samples.shape[2]}"


def is_tiff(data: bytes) -> bool:
    """Return whether a file starts with a TIFF signature."""
    return data[:4] in SIGNATURES


def decode_tiff(data: bytes, path: object, max_bytes: int) -> RawSamples | int:
    """Decode the image in a TIFF, or return the number of its page if Pillow can read that page completely.

    Several single-channel pages of equal shape and type are the channels of one image. Raise :class:`SegError` if the
    file is damaged, uses an unsupported compression, or would take more than ``max_bytes``.
    """
    import tifffile

    page = None
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            pages = _select_image_pages([page for page in file.pages if isinstance(page, tifffile.TiffPage)])
            page = pages[0]
            stacked = len(pages) > 1 and all(map(_is_channel, pages)) and len({_describe_page(p) for p in pages}) == 1
            if not stacked and _is_pillow_readable(page):
                return page.index
            _require_decodable_size(page, len(pages) if stacked else 1, path, max_bytes)
            return _stack_pages(pages, data) if stacked else _decode_page(page, data)
    except SegError:
        raise
    # Everything else: on a damaged file tifffile raises whatever its parsing runs into, and documents none of it.
    except Exception as error:
        if page is None:
            # Not even the page list can be read: Pillow gets to try, and reports the damage.
            return 0
        deep = _decode_first_page(page, data)
        if deep is not None:
            return deep
        raise _explain_failure(error, path) from None


def _decode_first_page(page: Any, data: bytes) -> RawSamples | None:
    """Return what OpenCV makes of the first page, or None if that is not the whole page."""
    # tifffile needs imagecodecs for LZW and the like. OpenCV decodes those itself, but only the first page.
    deep = decode_deep_samples(data) if page.index == 0 else None
    if deep is None or deep.shape[:2] != (page.imagelength, page.imagewidth):
        return None
    return RawSamples(deep, _read_page_orientation(page), _has_alpha(page))


def _explain_failure(error: Exception, path: object) -> SegError:
    packed = isinstance(error, _UnsupportedCompression) or "imagecodecs" in str(error)
    message = "this TIFF compression is not supported" if packed else "the TIFF is truncated or damaged"
    help = "save it uncompressed or with Deflate compression" if packed else "copy it again from its source"
    return fail("image-unknown" if packed else "image-truncated", message, help, path=str(path))


class _UnsupportedCompression(Exception):
    """A page uses a compression that is not supported."""


def _select_image_pages(pages: Sequence[Any]) -> Sequence[Any]:
    """Return the pages that are neither thumbnails nor masks, or all pages if there are no others."""
    return [page for page in pages if not int(page.subfiletype) & (THUMBNAIL_BIT | MASK_BIT)] or pages


def _describe_page(page: Any) -> tuple[Any, ...]:
    return page.shape, page.dtype, page.bitspersample, int(page.photometric)


def _is_channel(page: Any) -> bool:
    return len(page.shape) == 2 and int(page.photometric) in (WHITE_IS_ZERO, BLACK_IS_ZERO) and page.bitspersample >= 8


def _is_pillow_readable(page: Any) -> bool:
    """Return whether Pillow reads a page without dropping channels or bits."""
    photometric, bits, channels = int(page.photometric), page.bitspersample, page.samplesperpixel
    if photometric not in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB):
        return True
    if channels == 1:
        return bits <= 8
    return bits <= 8 and photometric == RGB and (channels == 3 or (channels == 4 and _has_alpha(page)))


def _has_alpha(page: Any) -> bool:
    extra = [int(kind) for kind in page.extrasamples or ()]
    return bool(extra) and extra[-1] in ALPHA_KINDS


def _read_page_orientation(page: Any) -> int:
    # 274 is the Orientation tag. Writers put other values there, which count as upright.
    tag = page.tags.get(274)
    return int(tag.value) if tag is not None and tag.value in range(1, 9) else 1


def _require_decodable_size(page: Any, pages: int, path: object, max_bytes: int) -> None:
    if getattr(page, "imagedepth", 1) > 1:
        message = f"the TIFF holds a volume of {page.imagedepth} slices"
        raise fail("image-unknown", message, "save one slice per file, or the slices as channels", path=str(path))
    size = page.imagelength * page.imagewidth * page.samplesperpixel * pages * page.dtype.itemsize
    if size > max_bytes:
        shape = f"{page.imagewidth} x {page.imagelength} pixels of {page.samplesperpixel * pages} channels"
        message = f"the image has {shape} and takes {size:,} bytes decoded; the limit is {max_bytes:,}"
        raise fail("image-too-large", message, "split it into tiles, or downscale it", path=str(path))


def _stack_pages(pages: Sequence[Any], data: bytes) -> RawSamples:
    for page in pages:
        _require_bounded_inflate(page, data)
    return RawSamples(
        np.stack([_invert_white_is_zero(page) for page in pages], axis=2), _read_page_orientation(pages[0])
    )


def _decode_page(page: Any, data: bytes) -> RawSamples:
    _require_bounded_inflate(page, data)
    samples = _invert_white_is_zero(page)
    # PlanarConfiguration 2 stores whole channel planes one after the other: (C, H, W).
    if samples.ndim == 3 and int(page.planarconfig) == 2:
        samples = np.moveaxis(samples, 0, 2)
    samples = samples if samples.ndim == 3 else samples[:, :, None]
    return RawSamples(samples, _read_page_orientation(page), _has_alpha(page))


def _invert_white_is_zero(page: Any) -> np.ndarray:
    """Return the samples of a page with larger values brighter."""
    samples = page.asarray()
    if int(page.photometric) == WHITE_IS_ZERO and samples.dtype.kind == "u":
        return np.iinfo(samples.dtype).max - samples
    return samples


def _require_bounded_inflate(page: Any, data: bytes) -> None:
    """Raise if a strip or tile inflates to more than the header declares."""
    if page.compression in NO_COMPRESSION + PACKBITS:
        return
    if page.compression not in DEFLATE:
        raise _UnsupportedCompression
    # The declared size was checked, but tifffile inflates without a limit: a crafted strip could exhaust the memory.
    limit = math.prod(page.chunks) * page.dtype.itemsize
    for start, length in zip(page.dataoffsets, page.databytecounts, strict=True):
        if len(zlib.decompressobj().decompress(data[start : start + length], limit + 1)) > limit:
            raise zlib.error
