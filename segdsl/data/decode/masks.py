"""Decoding of masks to class ids, in lossless formats only."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from segdsl.data.decode.images import Color, load_pixels, open_image, read_bytes, read_png_depth
from segdsl.diagnostics import fail
from segdsl.text.plural import format_count

MASK_EXTENSIONS = frozenset({".png", ".bmp", ".dib", ".tif", ".tiff", ".pgm"})
"""File name suffixes of masks: lossless formats only."""
MASK_FORMATS = ("PNG", "BMP", "DIB", "TIFF", "PPM")
"""Their names in Pillow."""
LOSSY_COMPRESSIONS = ("jpeg", "tiff_jpeg", "webp", "jp2000")
"""Compressions within TIFF that alter values."""


def read_mask(path: str | Path, colors: Sequence[Color | None] = (), value_to_id: Sequence[int] = ()) -> np.ndarray:
    """Read a mask as class ids, uint8 (H, W).

    A single 8-bit channel holds the ids themselves. A three-channel mask is looked up in ``colors``, one per class. A
    palette mask is read by index, unless its palette has the classes' colors in another order; then by color.
    ``value_to_id`` maps each of the 256 values to an id, or to a negative number if no mask may hold it.
    Raise :class:`SegError` naming the file if it cannot be used.
    """
    return decode_mask(read_bytes(path), path, colors, value_to_id)


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
    with open_image(data, path, "mask") as image:
        compression = image.info.get("compression", "")
        if image.format not in MASK_FORMATS or compression in LOSSY_COMPRESSIONS:
            raise fail(
                "mask-format",
                f"the mask is a {image.format} file, which may have altered class ids; masks must be PNG",
                "export the mask again from the original annotation, as 8-bit PNG",
                path=str(path),
            )
        depth = read_png_depth(data) if image.format == "PNG" else 8
        if depth == 16 or image.mode.startswith(("I", "F")):
            raise fail(
                "mask-depth",
                "the mask has more than 8 bits per pixel",
                "save it as an 8-bit one-channel PNG whose pixel values are the class ids",
                path=str(path),
            )
        load_pixels(image, data, path, "mask")
        # An alpha channel that is fully opaque carries nothing: many editors add one.
        if image.mode in ("LA", "RGBA") and np.asarray(image)[..., -1].min() == 255:
            image = image.convert(image.mode[:-1])
        if image.mode == "1":
            return np.array(image, dtype=np.uint8)
        if image.mode == "L":
            # Pillow spreads the values of 2 and 4 bits over 0 to 255.
            return np.array(image) // (255 // (2**depth - 1))
        if image.mode == "P":
            return _map_palette(np.array(image), image.getpalette() or [], path, colors)
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
        # Without colors to look up, three equal channels can only be ids that were saved three times.
        if (rgb[..., :1] == rgb[..., 1:]).all():
            return np.ascontiguousarray(rgb[..., 0])
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


def has_color_channels(data: bytes) -> bool:
    """Return whether a PNG is RGB or RGBA, so that its colors must be looked up."""
    # Byte 25 of a PNG is the color type of its header chunk.
    return len(data) > 25 and data[25] in (2, 6)
