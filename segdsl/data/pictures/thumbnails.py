"""Thumbnails: an image shrunk into a box, and its mask over it in class colors."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

import cv2
import numpy as np
from PIL import Image

from segdsl.data.pictures.palette import Color
from segdsl.pages.page import Picture, encode_data_uri

TINT_STRENGTH = 0.6
"""Opacity of the class color over the image."""
MIN_COVER = 0.3
"""Share of a thumbnail pixel that a rarer class must cover to get it, so that thin objects stay visible."""
STRIPE_WIDTH = 4
"""Width of a hatching stripe, in pixels."""
DARK_GRAY, LIGHT_GRAY = 120, 205
# 24 images of this size stay below 1.3 MB in base64.
MAX_BYTES = 40_000
"""Maximum size of a thumbnail as a JPEG; larger ones are compressed more."""
QUALITIES = (82, 65, 45, 25)


def draw_thumbnails(
    image: np.ndarray, masks: Sequence[np.ndarray], colors: Sequence[Color], ignore: int, box: tuple[int, int]
) -> list[np.ndarray]:
    """Return an RGB image fit into a box of (height, width), and each of its masks drawn over it."""
    size = fit_box(image.shape[0], image.shape[1], box)
    small = resize_thumbnail(image, size)
    return [small, *(draw_overlay(small, shrink_mask(mask, size), colors, ignore) for mask in masks)]


def make_picture(pixels: np.ndarray, description: str) -> Picture:
    """Return a thumbnail for a page."""
    source = encode_data_uri(encode_jpeg(pixels), "image/jpeg")
    return Picture(source, description, pixels.shape[1], pixels.shape[0])


def encode_jpeg(pixels: np.ndarray, qualities: Sequence[int] = QUALITIES, max_bytes: int = MAX_BYTES) -> bytes:
    """Encode an RGB image (H, W, 3), uint8, as JPEG within the maximum size, or else at the lowest quality."""
    content = b""
    for quality in qualities:
        stream = BytesIO()
        Image.fromarray(pixels).save(stream, "JPEG", quality=quality, optimize=True)
        content = stream.getvalue()
        if len(content) <= max_bytes:
            break
    return content


def fit_box(height: int, width: int, box: tuple[int, int]) -> tuple[int, int]:
    """Return the largest (height, width) with the same aspect ratio that fits into a box."""
    factor = min(box[0] / height, box[1] / width)
    return max(1, round(height * factor)), max(1, round(width * factor))


def resize_thumbnail(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize an image, uint8 (H, W, 3), to (height, width)."""
    smaller = size[0] <= image.shape[0]
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC)


def shrink_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize class ids to (height, width), keeping every value visible as far as there are enough pixels."""
    small = cv2.resize(mask, size[::-1], interpolation=cv2.INTER_NEAREST)
    if size[0] > mask.shape[0]:
        return small
    # The rarest comes last, over the others.
    for value in sort_values_by_frequency(mask):
        cover = cv2.resize((mask == value).astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA)
        small[cover >= min(MIN_COVER, float(cover.max()))] = value
    return small


def sort_values_by_frequency(mask: np.ndarray) -> list[int]:
    """Return the values of a mask, the most frequent first."""
    counts = np.bincount(mask.ravel(), minlength=256)
    return sorted(np.flatnonzero(counts).tolist(), key=lambda value: -counts[value])


def draw_overlay(image: np.ndarray, mask: np.ndarray, colors: Sequence[Color], ignore: int) -> np.ndarray:
    """Draw a mask over an image of the same size: tinted, with solid borders, ignored pixels hatched in gray."""
    table = np.zeros((256, 3), np.float32)
    table[: len(colors)] = colors
    paint = table[mask]
    void = mask == ignore
    paint[void] = make_hatching(*mask.shape)[void]
    strength = np.where(find_borders(mask) | void, 1.0, TINT_STRENGTH)[..., None]
    return (image * (1 - strength) + paint * strength).round().astype(np.uint8)


def find_borders(mask: np.ndarray) -> np.ndarray:
    """Return the pixels whose upper or left neighbor has another value: lines one pixel wide, bool (H, W)."""
    border = np.zeros(mask.shape, bool)
    border[1:] |= mask[1:] != mask[:-1]
    border[:, 1:] |= mask[:, 1:] != mask[:, :-1]
    return border


def make_hatching(height: int, width: int) -> np.ndarray:
    """Return slanted stripes of two grays, uint8 (H, W, 3)."""
    down, across = np.mgrid[:height, :width]
    dark = ((down + across) // STRIPE_WIDTH) % 2 == 0
    return np.repeat(np.where(dark, DARK_GRAY, LIGHT_GRAY).astype(np.uint8)[..., None], 3, axis=2)
