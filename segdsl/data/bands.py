"""Images of other depths and channels than 8-bit RGB: their samples as they are stored, and how they become uint8.

Pillow reads four channels of 8 bits at most and cuts deeper ones without a word, so that those of 16 bits go to OpenCV,
and TIFF of more channels or pages to tifffile.
"""

from __future__ import annotations

import io
import logging
import math
import zlib
from typing import Any

import cv2
import numpy as np
from PIL import Image

from segdsl.diagnostics import Diagnostic, SegError, fail
from segdsl.ir.values import Range, number

cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # it would write of what it finds odd in a file
TIFF_MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""How a TIFF begins, and a BigTIFF."""
MAX_BANDS = 4096
STORED, DEFLATED, PACKED_BITS = (1,), (8, 32946), (32773,)
"""What tifffile unpacks by itself, by the number of the TIFF specification."""
GREY_OF_RGB = (0.299, 0.587, 0.114)
"""The luma of ITU-R BT.601."""


def is_tiff(data: bytes) -> bool:
    """Whether a file begins as a TIFF does."""
    return data[:4] in TIFF_MARKS


def tiff_samples(data: bytes, path: object, most: int) -> tuple[np.ndarray, bool]:
    """The samples of a TIFF, (H, W, channels), in the depth of the file, and whether the last of them is no colour;
    several pages of one channel are channels.

    Raises :class:`SegError` where it is damaged, packed in a way that is not known, or has more than ``most`` pixels.
    """
    import tifffile

    shape, alpha = None, False
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            pages = [page for page in file.pages if isinstance(page, tifffile.TiffPage)]
            first = pages[0]
            shape = (int(first.imagelength), int(first.imagewidth))
            size = shape[0] * shape[1]
            if size > most or len(pages) * first.samplesperpixel > MAX_BANDS:
                raise _too_many(first, len(pages), path)
            for page in pages:
                _require_bounded(page, data)
            if len(pages) > 1 and all(page.shape == first.shape and len(page.shape) == 2 for page in pages):
                return np.stack([page.asarray() for page in pages], axis=2), False
            alpha = first.photometric == tifffile.PHOTOMETRIC.RGB
            samples = first.asarray()
            if samples.ndim == 3 and first.planarconfig == tifffile.PLANARCONFIG.SEPARATE:
                samples = np.moveaxis(samples, 0, 2)
            elif samples.ndim == 2:
                samples = samples[:, :, None]
    except SegError:
        raise
    except Exception as error:
        deep = deep_samples(data)
        if deep is not None and deep.shape[:2] == shape:
            return deep, alpha
        packed = isinstance(error, _Unpacked) or "imagecodecs" in str(error)
        message = "the TIFF is compressed in a way that is not read" if packed else "the TIFF is truncated or damaged"
        help = "save it without compression, or with deflate" if packed else "copy it again from its source"
        raise fail("image-truncated" if not packed else "image-unknown", message, help, path=str(path)) from None
    if samples.ndim != 3:
        message = f"the TIFF is of {samples.ndim} dimensions: {' x '.join(map(str, samples.shape))}"
        raise fail("image-unknown", message, "save height x width x channels", path=str(path))
    return samples, alpha


class _Unpacked(Exception):
    """A TIFF whose parts are packed in a way that is not read, or hold more than its header says."""


def _require_bounded(page: Any, data: bytes) -> None:
    """Raises where a part of a page would unfold to more than the header says: tifffile asks for all of it."""
    if page.compression in STORED + PACKED_BITS:
        return
    if page.compression not in DEFLATED:
        raise _Unpacked("packed in a way that is not read")
    limit = math.prod(page.chunks) * page.dtype.itemsize
    for start, length in zip(page.dataoffsets, page.databytecounts, strict=True):
        unpacked = zlib.decompressobj().decompress(data[start : start + length], limit + 1)
        if len(unpacked) > limit:
            raise zlib.error


def tiff_is_plain(picture: Image.Image) -> bool:
    """Whether Pillow reads all of a TIFF: one page of one channel, or of up to four channels of 8 bits."""
    tags = getattr(picture, "tag_v2", {})
    bits, channels, colored = tags.get(258, (1,)), tags.get(277, 1), tags.get(262, 0) > 1
    return getattr(picture, "n_frames", 1) == 1 and (channels == 1 or (channels <= 4 and max(bits) <= 8 and colored))


def _too_many(page: object, pages: int, path: object) -> SegError:
    width, height = getattr(page, "imagewidth", 0), getattr(page, "imagelength", 0)
    message = f"the picture has {width} x {height} pixels in {pages} pages, which is more than is decoded"
    return fail("image-too-large", message, "cut it into tiles, or scale it down", path=str(path))


def deep_samples(data: bytes) -> np.ndarray | None:
    """The samples of a PNG or TIFF of 16 bits, up to four channels, (H, W, C); None where OpenCV does not decode it."""
    samples = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if samples is None or samples.ndim not in (2, 3):
        return None
    if samples.ndim == 3 and samples.shape[2] in (3, 4):
        samples = cv2.cvtColor(samples, cv2.COLOR_BGRA2RGBA if samples.shape[2] == 4 else cv2.COLOR_BGR2RGB)
    return samples if samples.ndim == 3 else samples[:, :, None]


def pillow_samples(picture: Image.Image) -> np.ndarray:
    """The samples of a decoded Pillow image, (H, W, channels): palettes and bilevel images as what they show."""
    if picture.mode == "P":
        picture = picture.convert("RGBA" if "transparency" in picture.info else "RGB")
    elif picture.mode not in ("L", "LA", "RGB", "RGBA", "F") and not picture.mode.startswith("I"):
        picture = picture.convert("L" if picture.mode == "1" else "RGB")
    samples = np.asarray(picture)
    return samples if samples.ndim == 3 else samples[:, :, None]


def to_bytes(samples: np.ndarray, levels: Range | None, path: object) -> np.ndarray:
    """The samples as uint8: ``levels`` become 0 and 255, by default the whole range of 8 or 16 bits.

    Raises :class:`SegError` (`image-depth-unknown`) for other depths without levels.
    """
    if levels is not None:
        factor = 255 / (levels.high - levels.low)
        return np.rint((samples.astype(np.float32) - levels.low) * factor).clip(0, 255).astype(np.uint8)
    if samples.dtype == np.uint8:
        return np.ascontiguousarray(samples)
    if samples.dtype.kind in "iu" and samples.min() >= 0 and samples.max() <= 65535 and samples.dtype.itemsize > 1:
        return (samples >> 8).astype(np.uint8)
    if samples.dtype == np.bool_:
        return samples.astype(np.uint8) * 255
    what = "floating-point numbers" if samples.dtype.kind == "f" else f"integers of {8 * samples.dtype.itemsize} bits"
    finite = samples[np.isfinite(samples)] if samples.dtype.kind == "f" else samples
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    message = f"the pixels are {what}, with no known black and white; here they go from {number(low)} to {number(high)}"
    help = f"say which values become black and white: `data.levels = {Range(low, high if high > low else low + 1)}`"
    raise fail("image-depth-unknown", message, help, path=str(path))


def to_channels(samples: np.ndarray, channels: int | None, path: object, alpha: bool = False) -> np.ndarray:
    """uint8 samples as an image of ``channels`` (None: as many as there are).

    Grey is repeated for RGB, RGB weighed for grey; a last channel that is no colour (``alpha``) is dropped. Raises
    :class:`SegError` (`image-channels`) for any other difference.
    """
    have = samples.shape[2]
    if channels is None or have == channels:
        return samples
    colors = have - 1 if alpha else have
    if colors == channels:
        return np.ascontiguousarray(samples[:, :, :colors])
    if channels == 3 and colors == 1:
        return np.repeat(samples[:, :, :1], 3, axis=2)
    if channels == 1 and colors == 3:
        return np.rint(samples[:, :, :3] @ np.array(GREY_OF_RGB, np.float32)).astype(np.uint8)[:, :, None]
    raise SegError(not_the_channels(have, alpha, channels, path))


def not_the_channels(have: int, alpha: bool, wanted: int, path: object) -> list[Diagnostic]:
    """The error of an image whose channels cannot become those that are ``wanted``; none where they can."""
    colors = have - 1 if alpha else have
    if wanted in (have, colors) or (colors, wanted) in ((1, 3), (3, 1)):
        return []
    message = f"the image has {have} channels, the model takes {wanted}"
    help = f"make the model one for {have} channels: `in image: [B, {have}, H, W]`, or `in_channels = {have}`"
    return [Diagnostic("image-channels", message, help, path=str(path))]
