"""Decoding of images to uint8 and of masks to class ids. Sizes are checked in the header before anything is decoded."""

# Pillow decodes by default: it rejects truncated files where OpenCV returns a partial image.
from __future__ import annotations

import io
import os
import stat
import struct
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from segdsl.data.decode.jpeg import ReducibleJpeg, decode_jpeg, is_complete_jpeg
from segdsl.data.decode.samples import (
    convert_channels,
    decode_deep_samples,
    extract_samples,
    require_finite,
    scale_to_uint8,
    turn_upright,
)
from segdsl.data.decode.tiff import RawSamples, decode_tiff, is_tiff
from segdsl.diagnostics import SegError, fail
from segdsl.ir.values import Range
from segdsl.storage import git_lfs

LIMIT_VARIABLE, DEFAULT_MEGAPIXELS = "SEGDSL_MAX_MEGAPIXELS", 100
"""Larger images are rejected before decoding: a small file can expand to gigabytes."""
BYTES_PER_PIXEL = 4
"""The same limit for images with more channels or bits, in bytes."""
IMAGE_EXTENSIONS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".pbm", ".pgm", ".ppm", ".jp2", ".tga"}
)
"""File name suffixes of images, in lower case."""
PILLOW_FORMATS = ("BMP", "DIB", "JPEG", "JPEG2000", "PNG", "PPM", "TGA", "TIFF", "WEBP")
"""The readers that Pillow may choose among. Others start programs (EPS), or follow references to other files."""
NORMALIZATION: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "imagenet": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "none": ((0.0, 0.0, 0.0), (255.0, 255.0, 255.0)),
}
"""Mean and standard deviation of R, G and B on the scale 0..255, by value of `data.normalize`."""


def get_normalization(normalize: str, channels: int = 3) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation per channel on the scale 0..255; unless RGB, R, G and B are averaged."""
    mean, deviation = NORMALIZATION[normalize]
    if channels == len(mean):
        return mean, deviation
    return (sum(mean) / 3,) * channels, (sum(deviation) / 3,) * channels


class ReadOptions(NamedTuple):
    """How to read images: the number of ``channels`` (None: as stored), and the ``levels`` that become 0 and 255 (None:
    the full range of the depth). With ``skip_pixels`` only facts are collected, and pixels are not converted."""

    channels: int | None = 3
    levels: Range | None = None
    skip_pixels: bool = False


RGB_OPTIONS = ReadOptions()
Color = tuple[int, int, int]
DECODE_ERRORS = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError,
    struct.error, zlib.error,
)  # fmt: skip
"""What Pillow raises on damaged files. MemoryError is absent on purpose: it says nothing about the file."""

# Our limit replaces Pillow's own: it is checked as soon as a file is opened, and its message gives the size.
Image.MAX_IMAGE_PIXELS = None
warnings.filterwarnings("ignore", category=UserWarning, module="PIL")


@dataclass(frozen=True, slots=True)
class ImageData:
    """A decoded image, uint8 (H, W, C), with the ``mode`` of the file and EXIF's ``orientation`` (1: upright).

    ``mode`` is Pillow's, or depth and channels for files that Pillow reads only in part, such as `16 bits x 5`.
    ``channels`` counts the channels of the file; with ``has_alpha`` the last one is opacity. ``bits`` is 8, 16, or 0
    for values without a defined range. ``value_range`` is the least and greatest value of images deeper than 8 bits.
    """

    pixels: np.ndarray
    mode: str
    orientation: int
    channels: int = 3
    has_alpha: bool = False
    bits: int = 8
    value_range: tuple[float, float] = (0.0, 255.0)


def read_image(path: str | Path, options: ReadOptions = RGB_OPTIONS) -> np.ndarray:
    """Read an image as uint8 (H, W, C), by default RGB.

    EXIF orientation is applied, grayscale repeated, alpha dropped, and 16 bits are reduced to 8. Raise
    :class:`SegError` naming the file if it cannot be used.
    """
    return decode_image(read_bytes(path), path, options).pixels


def convert_to_rgb(image: np.ndarray) -> np.ndarray:
    """Convert an image of any channels to RGB for display: repeat grayscale, or take the first three channels."""
    if image.shape[2] < 3:
        return np.repeat(image[:, :, :1], 3, axis=2)
    return np.ascontiguousarray(image[:, :, :3])


def read_bytes(path: str | Path) -> bytes:
    """Read a file. Raise :class:`SegError` if it cannot be read or is empty."""
    try:
        # Reading a pipe or a device may never end. A folder fails below, with the system's own reason.
        if not stat.S_ISREG(Path(path).stat().st_mode) and not Path(path).is_dir():
            help = "replace it with a regular file; pipes and devices cannot be read"
            raise fail("data-file-unreadable", "the file is a pipe or a device", help, path=str(path))
        data = Path(path).read_bytes()
    except FileNotFoundError:
        help = "check the path; if it is a link, its target may have been removed"
        raise fail("data-file-missing", "the file does not exist", help, path=str(path)) from None
    except OSError as error:
        reason = (error.strerror or "input/output error").lower()
        help = "check its permissions, and the disk"
        raise fail("data-file-unreadable", f"the file cannot be read: {reason}", help, path=str(path)) from None
    if not data:
        help = "copy it again from its source"
        help += "" if str(path).endswith(".json") else ", or remove both image and mask"
        raise fail("data-file-empty", "the file is empty (0 bytes)", help, path=str(path))
    if git_lfs.is_pointer(data):
        raise fail("data-file-unreadable", git_lfs.MESSAGE, git_lfs.HELP, path=str(path))
    return data


def decode_image(data: bytes, path: str | Path, options: ReadOptions = RGB_OPTIONS) -> ImageData:
    """Decode the image in ``data``; ``path`` is used in diagnostics only. Raise :class:`SegError` if it is unfit."""
    tiff = decode_tiff(data, path, BYTES_PER_PIXEL * get_max_pixels()) if is_tiff(data) else 0
    if isinstance(tiff, RawSamples):
        return _build_image(tiff, path, options)
    with open_image(data, path, "image") as image:
        _seek_page(image, tiff, data, path)
        mode = image.mode
        # OpenCV is twice as fast; files that it cannot decode are left to Pillow, which names the fault.
        if options == RGB_OPTIONS and is_complete_jpeg(image, data) and (pixels := decode_jpeg(data)) is not None:
            turn = _read_orientation(image)
            return ImageData(turn_upright(pixels, turn), mode, turn, 1 if mode == "L" else 3)
        load_pixels(image, data, path, "image")
        orientation = _read_orientation(image)
        if deep := _decode_16_bit(image, data):
            return _build_image(RawSamples(deep[0], orientation, deep[0].shape[2] in (2, 4)), path, options)
        if orientation != 1:
            image = ImageOps.exif_transpose(image)
        if options == RGB_OPTIONS and mode in ("RGB", "L", "1", "CMYK", "YCbCr", "LAB"):
            # np.array copies: the result must own its memory once the file is closed.
            return ImageData(np.array(image.convert("RGB")), mode, orientation, 1 if mode in ("L", "1") else 3)
        samples = extract_samples(image)
        return _build_image(RawSamples(samples, 1, samples.shape[2] in (2, 4)), path, options, mode, orientation)


def _seek_page(image: Image.Image, page: int, data: bytes, path: str | Path) -> None:
    try:
        if page:
            image.seek(page)
    except DECODE_ERRORS:
        raise _make_damaged_error(data, path, "image") from None
    _require_max_pixels(image, path)


def _decode_16_bit(image: Image.Image, data: bytes) -> tuple[np.ndarray] | None:
    """Return the samples of a 16-bit file that Pillow would reduce to 8 bits, else None."""
    if image.format == "PNG" and (read_png_depth(data) != 16 or image.mode not in ("RGB", "RGBA", "LA")):
        return None
    # Modes "I" and "I;16" keep all 16 bits of a grayscale file, so Pillow is fine for them.
    if image.format not in ("PNG", "PPM", "JPEG2000") or image.mode.startswith("I"):
        return None
    samples = decode_deep_samples(data)
    return None if samples is None or samples.dtype != np.uint16 else (samples,)


def _build_image(
    raw: RawSamples, path: str | Path, options: ReadOptions, mode: str = "", orientation: int | None = None
) -> ImageData:
    """Make an upright image of samples; ``mode`` and ``orientation`` override what ``raw`` says of the file."""
    samples = turn_upright(raw.samples, raw.orientation)
    require_finite(samples, path)
    if options.skip_pixels:
        pixels = np.empty(samples.shape, np.uint8)
    else:
        pixels = convert_channels(scale_to_uint8(samples, options.levels, path), options.channels, path, raw.has_alpha)
    turn = raw.orientation if orientation is None else orientation
    bits = {1: 8, 2: 16}.get(samples.dtype.itemsize, 0) if samples.dtype.kind in "ub" else 0
    span = (0.0, 255.0) if bits == 8 else (float(samples.min()), float(samples.max()))
    return ImageData(pixels, mode or raw.mode, turn, samples.shape[2], raw.has_alpha, bits, span)


def read_image_size(path: str | Path) -> tuple[tuple[int, int], tuple[int, int]]:
    """Read an image's (height, width) from the header: with EXIF orientation applied, and as stored.

    Raise :class:`SegError` naming the file if it cannot be read.
    """
    with open_image(read_bytes(path), path, "image") as image:
        stored = image.height, image.width
        # Orientations 5 to 8 include a quarter turn, which swaps height and width.
        return (stored[1], stored[0]) if _read_orientation(image) > 4 else stored, stored


def open_reducible_jpeg(path: Path, options: ReadOptions) -> ReducibleJpeg | None:
    """Return the file if it is a JPEG that can be decoded at a reduced size, else None.

    Raise :class:`SegError` naming the file if it cannot be read.
    """
    if options != RGB_OPTIONS or path.suffix.lower() not in (".jpg", ".jpeg", ".jpe"):
        return None
    data = read_bytes(path)
    with open_image(data, path, "image") as image:
        # Reduced sizes are rounded up: the last row or column covers less than a full block of pixels. After a turn
        # that partial row would come first, and all others would be shifted against the mask.
        if not is_complete_jpeg(image, data) or _read_orientation(image) != 1:
            return None
        return ReducibleJpeg(data, (image.height, image.width))


def _read_orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except DECODE_ERRORS:
        return 1
    return value if value in range(1, 9) else 1


def open_image(data: bytes, path: str | Path, kind: str) -> Image.Image:
    """Open an image or a mask (its ``kind``). Raise :class:`SegError` if it is too large or in no known format."""
    try:
        image = Image.open(io.BytesIO(data), formats=PILLOW_FORMATS)
    except UnidentifiedImageError:
        help = f"convert it to one of {_format_extensions()}; the content decides, not the file name"
        raise fail("image-unknown", f"the {kind} is not in a supported format", help, path=str(path)) from None
    except DECODE_ERRORS:
        raise _make_damaged_error(data, path, kind) from None
    _require_max_pixels(image, path)
    return image


def get_max_pixels() -> int:
    """Return the number of pixels that an image may have: `$SEGDSL_MAX_MEGAPIXELS` millions, else 100 millions."""
    text = os.environ.get(LIMIT_VARIABLE, "")
    # Ten million megapixels are no limit any more, and a number of any length would take time to parse.
    return (int(text[:7]) if text.isascii() and text.isdecimal() else DEFAULT_MEGAPIXELS) * 1_000_000


def _require_max_pixels(image: Image.Image, path: str | Path) -> None:
    if image.width * image.height > get_max_pixels():
        raise _make_too_large_error(path, f"{image.width} x {image.height} = {image.width * image.height:,}")


def _format_extensions() -> str:
    return ", ".join(sorted(e.lstrip(".") for e in IMAGE_EXTENSIONS))


def _make_too_large_error(path: str | Path, pixels: str) -> SegError:
    message = f"the image has {pixels} pixels; the limit is {get_max_pixels():,}"
    help = f"set ${LIMIT_VARIABLE} to a higher limit (now {get_max_pixels() // 1_000_000}) if you trust it, or split it"
    return fail("image-too-large", message, help, path=str(path))


def load_pixels(image: Image.Image, data: bytes, path: str | Path, kind: str) -> None:
    """Decode an open image. Raise :class:`SegError` if it is damaged."""
    try:
        image.load()
    except DECODE_ERRORS:
        raise _make_damaged_error(data, path, kind) from None
    # Pillow accepts a PNG whose end is missing as long as it has all pixels; such a file is a broken copy all the same.
    if image.format == "PNG" and b"IEND" not in data:
        raise _make_damaged_error(data, path, kind)


def _make_damaged_error(data: bytes, path: str | Path, kind: str) -> SegError:
    message = f"the {kind} is truncated or damaged: its {len(data):,} bytes cannot be decoded"
    help = "copy it again from its source, or remove both image and mask"
    return fail("image-truncated", message, help, path=str(path))


def read_png_depth(data: bytes) -> int:
    """Return the bits of a sample in a PNG."""
    # Byte 24 of a PNG is the bit depth of its header chunk.
    return data[24] if len(data) > 24 else 0
