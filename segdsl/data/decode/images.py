"""Decoding of images to uint8 and of masks to class ids. Sizes are checked in the header before anything is decoded."""

# Pillow decodes by default: it rejects truncated files where OpenCV returns a partial image.
from __future__ import annotations

import io
import stat
import struct
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
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
from segdsl.text.plural import format_count

MAX_PIXELS = 100_000_000
"""Larger images are rejected before decoding: a small file can expand to gigabytes."""
MAX_BYTES = 4 * MAX_PIXELS
"""The same limit for images with more channels or bits."""
IMAGE_EXTENSIONS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".pbm", ".pgm", ".ppm", ".jp2", ".tga"}
)
"""File name suffixes of images, in lower case."""
MASK_EXTENSIONS = frozenset({".png"})
"""File name suffixes of masks: lossless formats only."""
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

# MAX_PIXELS replaces Pillow's own limit: it is checked as soon as a file is opened, and its message gives the size.
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


def read_mask(path: str | Path, colors: Sequence[Color | None] = (), value_to_id: Sequence[int] = ()) -> np.ndarray:
    """Read a mask as class ids, uint8 (H, W).

    A single 8-bit channel holds the ids themselves. A three-channel mask is looked up in ``colors``, one per class. A
    palette mask is read by index, unless its palette has the classes' colors in another order; then by color.
    ``value_to_id`` maps each of the 256 values to an id, or to a negative number if no mask may hold it.
    Raise :class:`SegError` naming the file if it cannot be used.
    """
    return decode_mask(read_bytes(path), path, colors, value_to_id)


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
    return data


def decode_image(data: bytes, path: str | Path, options: ReadOptions = RGB_OPTIONS) -> ImageData:
    """Decode the image in ``data``; ``path`` is used in diagnostics only. Raise :class:`SegError` if it is unfit."""
    tiff = decode_tiff(data, path, MAX_BYTES) if is_tiff(data) else 0
    if isinstance(tiff, RawSamples):
        return _build_image(tiff, path, options)
    with _open_image(data, path, "image") as image:
        _seek_page(image, tiff, data, path)
        mode = image.mode
        # OpenCV is twice as fast; files that it cannot decode are left to Pillow, which names the fault.
        if options == RGB_OPTIONS and is_complete_jpeg(image, data) and (pixels := decode_jpeg(data)) is not None:
            turn = _read_orientation(image)
            return ImageData(turn_upright(pixels, turn), mode, turn, 1 if mode == "L" else 3)
        _load_pixels(image, data, path, "image")
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
    if image.format == "PNG" and (_read_png_depth(data) != 16 or image.mode not in ("RGB", "RGBA", "LA")):
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
    with _open_image(read_bytes(path), path, "image") as image:
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
    with _open_image(data, path, "image") as image:
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


def decode_mask(
    data: bytes, path: str | Path, colors: Sequence[Color | None] = (), value_to_id: Sequence[int] = ()
) -> np.ndarray:
    """Decode the class ids in ``data``; see :func:`read_mask`."""
    mask = _decode_mask_values(data, path, colors)
    if not value_to_id:
        return mask
    present = np.flatnonzero(np.bincount(mask.ravel(), minlength=256))
    unknown = next((value for value in present.tolist() if value_to_id[value] < 0), None)
    if unknown is not None:
        message = f"mask value {unknown} is neither a class of the dataset nor the ignore value"
        help = "check that the mask holds class ids, and that `data.format`, `data.values` and `data.ignore` are right"
        raise fail("mask-value-out-of-range", message, help, path=str(path))
    return np.asarray(value_to_id, np.int16).astype(np.uint8)[mask]


def _decode_mask_values(data: bytes, path: str | Path, colors: Sequence[Color | None]) -> np.ndarray:
    """Return the values of a mask: its indices, or the ids of its colors."""
    with _open_image(data, path, "mask") as image:
        if image.format not in ("PNG",):
            raise fail(
                "mask-format",
                f"the mask is a {image.format} file, which may have altered class ids; masks must be PNG",
                "export the mask again from the original annotation, as 8-bit PNG",
                path=str(path),
            )
        depth = _read_png_depth(data)
        if depth == 16 or (depth != 8 and image.mode != "P"):
            raise fail(
                "mask-depth",
                f"the mask has {format_count(depth, 'bit')} per pixel, expected 8",
                "save it as an 8-bit one-channel PNG whose pixel values are the class ids",
                path=str(path),
            )
        _load_pixels(image, data, path, "mask")
        if image.mode == "L":
            return np.array(image)
        if image.mode == "P":
            return _map_palette(np.array(image), image.getpalette() or [], path, colors)
        # An alpha channel that is fully opaque carries nothing: many editors add one.
        if image.mode == "RGBA" and np.asarray(image)[..., 3].min() == 255:
            image = image.convert("RGB")
        if image.mode == "RGB":
            return _map_colors(np.asarray(image), path, tuple(colors))
        raise fail(
            "mask-channels",
            f"the mask has unsupported channels ({image.mode})",
            "save it with one channel, or as RGB without transparency",
            path=str(path),
        )


def _map_palette(mask: np.ndarray, palette: list[int], path: str | Path, colors: Sequence[Color | None]) -> np.ndarray:
    leading = list(colors[: colors.index(None)] if None in colors else colors)
    if [tuple(palette[3 * k : 3 * k + 3]) for k in range(len(leading))] == leading:
        return mask
    # Tools fill unused palette entries with arbitrary colors, so only the indices that occur in the mask decide.
    color_ids: dict[tuple[int, ...], int] = {c: k for k, c in enumerate(colors) if c is not None}
    class_of = {i: color_ids.get(tuple(palette[3 * i : 3 * i + 3])) for i in np.unique(mask).tolist()}
    if all(k is None or k == i for i, k in class_of.items()):
        return mask
    matches = {i: k for i, k in class_of.items() if k is not None}
    if len(matches) == len(class_of):
        table = np.zeros(256, dtype=np.uint8)
        table[list(matches)] = list(matches.values())
        return table[mask]
    wrong = next(i for i, k in matches.items() if k != i)
    raise fail(
        "mask-palette-ambiguous",
        f"ambiguous palette: index {wrong} has the color of class {class_of[wrong]}, but other colors match no class",
        "save the mask as a single channel whose pixel values are the class ids",
        path=str(path),
    )


def _map_colors(rgb: np.ndarray, path: str | Path, colors: tuple[Color | None, ...]) -> np.ndarray:
    if not any(color is not None for color in colors):
        raise fail(
            "mask-colors-missing",
            "the mask has three channels, but `dataset_meta.json` has no `segmentation_colors`",
            "add `segmentation_colors` (one [r, g, b] per class), or save the mask with one channel",
            path=str(path),
        )
    packed = (rgb[..., 0].astype(np.uint32) << 16) | (rgb[..., 1].astype(np.uint32) << 8) | rgb[..., 2]
    packed_colors, ids = _build_color_table(colors)
    place = np.searchsorted(packed_colors, packed).clip(0, len(packed_colors) - 1)
    unknown = packed_colors[place] != packed
    if unknown.any():
        y, x = np.argwhere(unknown)[0]
        r, g, b = rgb[y, x].tolist()
        hint = " (all three channels are equal: is this an index mask saved as RGB?)" if r == g == b else ""
        count = int(unknown.sum())
        raise fail(
            "mask-color-unknown",
            f"color [{r}, {g}, {b}] at x = {x}, y = {y} matches no class{hint}; {format_count(count, 'such pixel')}",
            "add the color to `segmentation_colors` or `labelmap.txt`, or save the mask with one channel",
            path=str(path),
        )
    return ids[place]


@lru_cache(maxsize=8)
def _build_color_table(colors: tuple[Color | None, ...]) -> tuple[np.ndarray, np.ndarray]:
    pairs = sorted(((r << 16) | (g << 8) | b, k) for k, color in enumerate(colors) if color for r, g, b in [color])
    return np.array([p for p, _ in pairs], dtype=np.uint32), np.array([k for _, k in pairs], dtype=np.uint8)


def _open_image(data: bytes, path: str | Path, kind: str) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data))
    except UnidentifiedImageError:
        help = f"convert it to one of {_format_extensions()}; the content decides, not the file name"
        raise fail("image-unknown", f"the {kind} is not in a supported format", help, path=str(path)) from None
    except DECODE_ERRORS:
        raise _make_damaged_error(data, path, kind) from None
    _require_max_pixels(image, path)
    return image


def _require_max_pixels(image: Image.Image, path: str | Path) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise _make_too_large_error(path, f"{image.width} x {image.height} = {image.width * image.height:,}")


def _format_extensions() -> str:
    return ", ".join(sorted(e.lstrip(".") for e in IMAGE_EXTENSIONS))


def _make_too_large_error(path: str | Path, pixels: str) -> SegError:
    message = f"the image has {pixels} pixels; the limit is {MAX_PIXELS:,}"
    return fail("image-too-large", message, "split it into tiles, or downscale it", path=str(path))


def _load_pixels(image: Image.Image, data: bytes, path: str | Path, kind: str) -> None:
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


def has_color_channels(data: bytes) -> bool:
    """Return whether a PNG is RGB or RGBA, so that its colors must be looked up."""
    # Bytes 24 and 25 of a PNG are the bit depth and the color type of its header chunk.
    return len(data) > 25 and data[25] in (2, 6)


def _read_png_depth(data: bytes) -> int:
    return data[24] if len(data) > 24 else 0
