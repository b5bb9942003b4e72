"""Decoding: image files to RGB uint8, mask files to class ids; what is damaged or unfit ends in a diagnostic.

Pillow decodes, since it refuses truncated files (OpenCV returns a partial picture) and stays silent. Sizes are read
from the header before anything is decoded.
"""

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

from segdsl.data.decode.jpeg import Reducible, decoded_jpeg, is_whole_jpeg
from segdsl.data.decode.samples import deep_samples, pillow_samples, require_finite, to_bytes, to_channels, upright
from segdsl.data.decode.tiff import Stored, is_tiff, tiff_image
from segdsl.diagnostics import SegError, fail
from segdsl.ir.values import Range

MAX_PIXELS = 100_000_000
"""Larger pictures are refused before they are decoded: a small file can unfold to gigabytes."""
MAX_BYTES = 4 * MAX_PIXELS
"""The same for images of many channels or bits."""
IMAGE_EXTENSIONS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".pbm", ".pgm", ".ppm", ".jp2", ".tga"}
)
"""Files that count as pictures, by the end of their name in lower case."""
MASK_EXTENSIONS = frozenset({".png"})
"""Files that may hold a mask: only formats without loss."""
STATISTICS: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "imagenet": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "none": ((0.0, 0.0, 0.0), (255.0, 255.0, 255.0)),
}
"""Mean and deviation of the RGB channels on the scale 0..255, for each value of `data.normalize`."""


def statistics(normalize: str, channels: int = 3) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each channel, on the scale 0..255; for images that are not RGB, the mean over RGB's."""
    mean, deviation = STATISTICS[normalize]
    if channels == len(mean):
        return mean, deviation
    return (sum(mean) / 3,) * channels, (sum(deviation) / 3,) * channels


class Reading(NamedTuple):
    """How images are read: into how many ``channels`` (None: as many as they have), and which values (``levels``)
    become 0 and 255 (None: the whole range of their depth). Where they are only measured, their pixels are left out."""

    channels: int | None = 3
    levels: Range | None = None
    measure: bool = False


RGB = Reading()
Color = tuple[int, int, int]
DECODE_ERRORS = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError,
    struct.error, zlib.error,
)  # fmt: skip
"""What Pillow raises on files that are damaged; a MemoryError is none of them."""

# Our own limit is checked as soon as a file is opened, and says how large the picture is.
Image.MAX_IMAGE_PIXELS = None
warnings.filterwarnings("ignore", category=UserWarning, module="PIL")


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded image, uint8 (H, W, C), with the ``mode`` of the file and EXIF's ``orientation`` (1: upright).

    ``mode`` is Pillow's, or depth and channels of what it does not read whole: `16 bits x 5`. ``channels`` are those
    of the file, of which the last may be no colour (``alpha``); ``bits`` are 8, 16, or 0 for numbers without a known
    black and white, and ``span`` the least and the greatest of the deeper ones.
    """

    pixels: np.ndarray
    mode: str
    orientation: int
    channels: int = 3
    alpha: bool = False
    bits: int = 8
    span: tuple[float, float] = (0.0, 255.0)


def read_image(path: str | Path, how: Reading = RGB) -> np.ndarray:
    """The image as uint8 (H, W, C), by default RGB: turned upright by its EXIF tag, grey repeated, alpha dropped, 16
    bits cut to 8. Raises :class:`SegError` that names the file.
    """
    return decode_image(read_bytes(path), path, how).pixels


def visible(image: np.ndarray) -> np.ndarray:
    """An image of any channels as RGB, to be looked at: grey repeated, of many channels the first three."""
    if image.shape[2] < 3:
        return np.repeat(image[:, :, :1], 3, axis=2)
    return np.ascontiguousarray(image[:, :, :3])


def read_mask(path: str | Path, colors: Sequence[Color | None] = (), table: Sequence[int] = ()) -> np.ndarray:
    """The mask as class ids, uint8 (H, W).

    One 8-bit channel is read as it is. A three-channel mask goes through ``colors``, one for each class. A palette mask
    is read by its indices unless its palette names the classes' colours in another order; then by colour.
    With ``table`` each value becomes the one at its place, and one that is negative there is none of the data set's.
    Raises :class:`SegError` that names the file.
    """
    return decode_mask(read_bytes(path), path, colors, table)


def read_bytes(path: str | Path) -> bytes:
    """The content of a file. Raises :class:`SegError` where it cannot be read or is empty."""
    try:
        if not stat.S_ISREG(Path(path).stat().st_mode) and not Path(path).is_dir():
            help = "replace it by the picture itself; what a pipe or a device gives has no end"
            raise fail("data-file-unreadable", "the file is a pipe or a device", help, path=str(path))
        data = Path(path).read_bytes()
    except FileNotFoundError:
        help = "check the path; a link may point to a place that is gone"
        raise fail("data-file-missing", "the file does not exist", help, path=str(path)) from None
    except OSError as error:
        reason = (error.strerror or "it is not readable").lower()
        help = "check its permissions and the disk"
        raise fail("data-file-unreadable", f"the file cannot be read: {reason}", help, path=str(path)) from None
    if not data:
        help = "copy it again from its source"
        help += "" if str(path).endswith(".json") else ", or remove image and mask"
        raise fail("data-file-empty", "the file is empty (0 bytes)", help, path=str(path))
    return data


def decode_image(data: bytes, path: str | Path, how: Reading = RGB) -> Picture:
    """The image in ``data``; ``path`` is for the diagnostics. Raises :class:`SegError`."""
    found = tiff_image(data, path, MAX_BYTES) if is_tiff(data) else 0
    if isinstance(found, Stored):
        return _of_samples(found, path, how)
    with _opened(data, path, "image") as picture:
        _seek(picture, found, data, path)
        mode = picture.mode
        if how == RGB and is_whole_jpeg(picture, data) and (pixels := decoded_jpeg(data)) is not None:
            turn = _orientation(picture)
            return Picture(upright(pixels, turn), mode, turn, 1 if mode == "L" else 3)
        _decode(picture, data, path, "image")
        orientation = _orientation(picture)
        if deep := _deep(picture, data):
            return _of_samples(Stored(deep[0], orientation, deep[0].shape[2] in (2, 4)), path, how)
        if orientation != 1:
            picture = ImageOps.exif_transpose(picture)
        if how == RGB and mode in ("RGB", "L", "1", "CMYK", "YCbCr", "LAB"):
            # A copy: the result must own its memory once the file is closed.
            return Picture(np.array(picture.convert("RGB")), mode, orientation, 1 if mode in ("L", "1") else 3)
        samples = pillow_samples(picture)
        return _of_samples(Stored(samples, 1, samples.shape[2] in (2, 4)), path, how, mode, orientation)


def _seek(picture: Image.Image, page: int, data: bytes, path: str | Path) -> None:
    try:
        if page:
            picture.seek(page)
    except DECODE_ERRORS:
        raise _damaged(data, path, "image") from None
    _require_size(picture, path)


def _deep(picture: Image.Image, data: bytes) -> tuple[np.ndarray] | None:
    """The samples of a file of 16 bits a channel that Pillow cuts to 8."""
    if picture.format == "PNG" and (_png_depth(data) != 16 or picture.mode not in ("RGB", "RGBA", "LA")):
        return None
    if picture.format not in ("PNG", "PPM", "JPEG2000") or picture.mode.startswith("I"):
        return None
    samples = deep_samples(data)
    return None if samples is None or samples.dtype != np.uint16 else (samples,)


def _of_samples(
    stored: Stored, path: str | Path, how: Reading, mode: str = "", orientation: int | None = None
) -> Picture:
    """The picture of samples, which are turned upright; what they were called, and how they lay, may be said."""
    samples = upright(stored.samples, stored.orientation)
    require_finite(samples, path)
    if how.measure:
        pixels = np.empty(samples.shape, np.uint8)
    else:
        pixels = to_channels(to_bytes(samples, how.levels, path), how.channels, path, stored.alpha)
    turn = stored.orientation if orientation is None else orientation
    bits = {1: 8, 2: 16}.get(samples.dtype.itemsize, 0) if samples.dtype.kind in "ub" else 0
    span = (0.0, 255.0) if bits == 8 else (float(samples.min()), float(samples.max()))
    return Picture(pixels, mode or stored.mode, turn, samples.shape[2], stored.alpha, bits, span)


def picture_size(path: str | Path) -> tuple[tuple[int, int], tuple[int, int]]:
    """(height, width) of an image as it is read, and as it is stored, before its EXIF tag turns it; from the header.

    Raises :class:`SegError` that names the file.
    """
    with _opened(read_bytes(path), path, "image") as picture:
        stored = picture.height, picture.width
        return (stored[1], stored[0]) if _orientation(picture) > 4 else stored, stored


def reducible(path: Path, how: Reading) -> Reducible | None:
    """The file if it is a JPEG that can be decoded at a reduced size. Raises :class:`SegError` that names it."""
    if how != RGB or path.suffix.lower() not in (".jpg", ".jpeg", ".jpe"):
        return None
    data = read_bytes(path)
    with _opened(data, path, "image") as picture:
        # A turned image would begin with the part of a pixel that is over at the end of the stored one.
        if not is_whole_jpeg(picture, data) or _orientation(picture) != 1:
            return None
        return Reducible(data, (picture.height, picture.width))


def _orientation(picture: Image.Image) -> int:
    try:
        value = picture.getexif().get(ExifTags.Base.Orientation, 1)
    except DECODE_ERRORS:
        return 1
    return value if value in range(1, 9) else 1


def decode_mask(
    data: bytes, path: str | Path, colors: Sequence[Color | None] = (), table: Sequence[int] = ()
) -> np.ndarray:
    """The class ids in ``data``; see :func:`read_mask`."""
    mask = _decoded_mask(data, path, colors)
    if not table:
        return mask
    here = np.flatnonzero(np.bincount(mask.ravel(), minlength=256))
    strange = next((value for value in here.tolist() if table[value] < 0), None)
    if strange is not None:
        message = f"the mask holds the value {strange}, which is neither a class of the data set nor void"
        help = "see that the mask is the one of class ids, and `data.format`, `data.values` and `data.ignore` are right"
        raise fail("mask-value-out-of-range", message, help, path=str(path))
    return np.asarray(table, np.int16).astype(np.uint8)[mask]


def _decoded_mask(data: bytes, path: str | Path, colors: Sequence[Color | None]) -> np.ndarray:
    """The values in ``data``, as they are or by their colours."""
    with _opened(data, path, "mask") as picture:
        if picture.format not in ("PNG",):
            raise fail(
                "mask-format",
                f"the mask is a {picture.format} file; that may change pixel values, and so class ids",
                "save masks as 8-bit PNG, from the original annotation",
                path=str(path),
            )
        depth = _png_depth(data)
        if depth == 16 or (depth != 8 and picture.mode != "P"):
            raise fail(
                "mask-depth",
                f"the mask has {depth} bit{'s' if depth != 1 else ''} a pixel, expected 8",
                "save it as an 8-bit one-channel PNG whose pixel values are the class ids",
                path=str(path),
            )
        _decode(picture, data, path, "mask")
        if picture.mode == "L":
            return np.array(picture)
        if picture.mode == "P":
            return _palette_ids(np.array(picture), picture.getpalette() or [], path, colors)
        if picture.mode == "RGBA" and np.asarray(picture)[..., 3].min() == 255:
            picture = picture.convert("RGB")
        if picture.mode == "RGB":
            return _ids_of_colors(np.asarray(picture), path, tuple(colors))
        raise fail(
            "mask-channels",
            f"the mask has channels that mean nothing here ({picture.mode})",
            "save it with one channel, or with three and no transparency",
            path=str(path),
        )


def _palette_ids(mask: np.ndarray, palette: list[int], path: str | Path, colors: Sequence[Color | None]) -> np.ndarray:
    first = list(colors[: colors.index(None)] if None in colors else colors)
    if [tuple(palette[3 * k : 3 * k + 3]) for k in range(len(first))] == first:
        return mask  # in the order of the classes, whatever fills the rest of the palette
    named_ids: dict[tuple[int, ...], int] = {c: k for k, c in enumerate(colors) if c is not None}
    named = {i: named_ids.get(tuple(palette[3 * i : 3 * i + 3])) for i in np.unique(mask).tolist()}
    if all(k is None or k == i for i, k in named.items()):
        return mask
    known = {i: k for i, k in named.items() if k is not None}
    if len(known) == len(named):
        table = np.zeros(256, dtype=np.uint8)
        table[list(known)] = list(known.values())
        return table[mask]
    wrong = next(i for i, k in known.items() if k != i)
    raise fail(
        "mask-palette-ambiguous",
        f"palette index {wrong} has the colour of class {named[wrong]}, and other colours belong to no class",
        "save the mask with one channel, pixel value = class id; then nothing needs to be guessed",
        path=str(path),
    )


def _ids_of_colors(rgb: np.ndarray, path: str | Path, colors: tuple[Color | None, ...]) -> np.ndarray:
    if not any(color is not None for color in colors):
        raise fail(
            "mask-colors-missing",
            "the mask has three channels, and `dataset_meta.json` has no `segmentation_colors` to read them by",
            "add `segmentation_colors` (one [r, g, b] for each class), or save the mask with one channel",
            path=str(path),
        )
    packed = (rgb[..., 0].astype(np.uint32) << 16) | (rgb[..., 1].astype(np.uint32) << 8) | rgb[..., 2]
    known, ids = _color_table(colors)
    place = np.searchsorted(known, packed).clip(0, len(known) - 1)
    unknown = known[place] != packed
    if unknown.any():
        y, x = np.argwhere(unknown)[0]
        r, g, b = rgb[y, x].tolist()
        grey = " (all three channels are equal: is it an index mask saved as RGB?)" if r == g == b else ""
        raise fail(
            "mask-color-unknown",
            f"colour [{r}, {g}, {b}] at x = {x}, y = {y} belongs to no class{grey}; {int(unknown.sum())} such pixels",
            "add the colour to the others (`segmentation_colors`, `labelmap.txt`), or save the mask with one channel",
            path=str(path),
        )
    return ids[place]


@lru_cache(maxsize=8)
def _color_table(colors: tuple[Color | None, ...]) -> tuple[np.ndarray, np.ndarray]:
    pairs = sorted(((r << 16) | (g << 8) | b, k) for k, color in enumerate(colors) if color for r, g, b in [color])
    return np.array([p for p, _ in pairs], dtype=np.uint32), np.array([k for _, k in pairs], dtype=np.uint8)


def _opened(data: bytes, path: str | Path, what: str) -> Image.Image:
    try:
        picture = Image.open(io.BytesIO(data))
    except UnidentifiedImageError:
        help = f"expected one of {_listing()}; the content counts, not the name"
        raise fail("image-unknown", f"this is no {what} that can be read", help, path=str(path)) from None
    except DECODE_ERRORS:
        raise _damaged(data, path, what) from None
    _require_size(picture, path)
    return picture


def _require_size(picture: Image.Image, path: str | Path) -> None:
    if picture.width * picture.height > MAX_PIXELS:
        raise _too_large(path, f"{picture.width} x {picture.height} = {picture.width * picture.height:,}")


def _listing() -> str:
    return ", ".join(sorted(e.lstrip(".") for e in IMAGE_EXTENSIONS))


def _too_large(path: str | Path, pixels: str) -> SegError:
    message = f"the picture has {pixels} pixels, at most {MAX_PIXELS:,} are decoded"
    return fail("image-too-large", message, "cut it into tiles, or scale it down", path=str(path))


def _decode(picture: Image.Image, data: bytes, path: str | Path, what: str) -> None:
    try:
        picture.load()
    except DECODE_ERRORS:
        raise _damaged(data, path, what) from None
    if picture.format == "PNG" and b"IEND" not in data:
        raise _damaged(data, path, what)


def _damaged(data: bytes, path: str | Path, what: str) -> SegError:
    message = f"the {what} is truncated or damaged: it does not decode from its {len(data):,} bytes"
    return fail("image-truncated", message, "copy it again from its source, or remove image and mask", path=str(path))


def has_colors(data: bytes) -> bool:
    """Whether a PNG has three channels or four, of which each colour is looked up."""
    return len(data) > 25 and data[25] in (2, 6)


def _png_depth(data: bytes) -> int:
    return data[24] if len(data) > 24 else 0
