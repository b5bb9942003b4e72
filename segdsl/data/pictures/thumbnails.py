"""Thumbnails: an image shrunk into a box, and its mask over it in class colors."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from segdsl.data.pictures.palette import Color

TINT_STRENGTH = 0.6
"""Opacity of the class color over the image."""
MIN_COVER = 0.3
"""Share of a thumbnail pixel that a rarer class must cover to get it, so that thin objects stay visible."""
STRIPE_WIDTH = 4
"""Width of a hatching stripe, in pixels."""
DARK_GRAY, LIGHT_GRAY = 120, 205


def fit_box(height: int, width: int, box: tuple[int, int]) -> tuple[int, int]:
    """Return the largest (height, width) with the same aspect ratio that fits into a box."""
    factor = min(box[0] / height, box[1] / width)
    return max(1, round(height * factor)), max(1, round(width * factor))


def resize_thumbnail(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize an image, uint8 (H, W, 3), to (height, width)."""
    smaller = size[0] <= image.shape[0]
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC)


def shrink_mask(mask: np.ndarray, size: tuple[int, int], order: Sequence[int]) -> np.ndarray:
    """Resize class ids to (height, width), keeping every value visible as far as there are enough pixels.

    ``order`` lists all values from the most frequent to the rarest.
    """
    small = cv2.resize(mask, size[::-1], interpolation=cv2.INTER_NEAREST)
    if size[0] > mask.shape[0]:
        return small
    here = set(np.unique(mask).tolist())
    for value in (v for v in order if v in here):
        cover = cv2.resize((mask == value).astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA)
        small[cover >= min(MIN_COVER, float(cover.max()))] = value
    return small


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
