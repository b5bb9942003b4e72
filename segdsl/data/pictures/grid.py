"""A plain grid of thumbnails, as an image file."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

import numpy as np
from PIL import Image

PAPER, PANEL = 255, (238, 239, 242)
"""Gray of the background, and color of the space beside an image."""
GAP = 8
"""Pixels between two tiles and around the grid."""


def draw_grid(rows: Sequence[Sequence[np.ndarray]], box: tuple[int, int]) -> np.ndarray:
    """Draw rows of RGB thumbnails, each in a box of (height, width) that it fits into."""
    step_y, step_x = box[0] + GAP, box[1] + GAP
    canvas = make_canvas(len(rows) * step_y + GAP, max(map(len, rows)) * step_x + GAP)
    for y, row in enumerate(rows):
        for x, pixels in enumerate(row):
            draw_tile(canvas, (GAP + y * step_y, GAP + x * step_x), pixels, box)
    return canvas


def make_canvas(height: int, width: int) -> np.ndarray:
    """Return an empty RGB image, uint8 (H, W, 3)."""
    return np.full((height, width, 3), PAPER, np.uint8)


def draw_tile(canvas: np.ndarray, place: tuple[int, int], pixels: np.ndarray, box: tuple[int, int]) -> None:
    """Draw a thumbnail into the middle of a box whose upper left corner is at (y, x)."""
    canvas[place[0] : place[0] + box[0], place[1] : place[1] + box[1]] = PANEL
    height, width = pixels.shape[:2]
    top, left = place[0] + (box[0] - height) // 2, place[1] + (box[1] - width) // 2
    canvas[top : top + height, left : left + width] = pixels


def encode_image(pixels: np.ndarray, format: str) -> bytes:
    """Encode an RGB image in a format of Pillow. JPEG reproduces class colors only approximately."""
    stream = BytesIO()
    Image.fromarray(pixels).save(stream, format, quality=95, subsampling=0)
    return stream.getvalue()
