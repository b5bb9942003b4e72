"""JPEG decoding with OpenCV: twice as fast as Pillow with identical pixels, optionally at 1/2, 1/4 or 1/8 of the size.

OpenCV decodes truncated JPEGs silently, so only complete files are passed to it.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

# IMREAD_COLOR_RGB saves a pass over the pixels; OpenCV has no RGB variant of the reduced sizes, which come out as BGR.
DECODE_FLAGS = {
    1: cv2.IMREAD_COLOR_RGB,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
"""OpenCV's decoding flag for each reduction factor."""
END_MARKER = b"\xff\xd9"
"""JPEG's End Of Image marker."""


def is_complete_jpeg(image: Image.Image, data: bytes) -> bool:
    """Return whether an opened file is an RGB or grayscale JPEG that was not truncated."""
    # Some cameras and editors pad the file after the marker, so the last 64 bytes are searched, not the last two.
    return image.format == "JPEG" and image.mode in ("RGB", "L") and data.rfind(END_MARKER, -64) >= 0


def decode_jpeg(data: bytes, factor: int = 1) -> np.ndarray | None:
    """Decode a JPEG to RGB uint8 (H, W, 3), with the size divided by ``factor`` and rounded up; None if it is damaged.

    EXIF orientation is not applied.
    """
    found = cv2.imdecode(np.frombuffer(data, np.uint8), DECODE_FLAGS[factor] | cv2.IMREAD_IGNORE_ORIENTATION)
    return found if found is None or factor == 1 else cv2.cvtColor(found, cv2.COLOR_BGR2RGB)


class ReducibleJpeg(NamedTuple):
    """An upright JPEG that is not decoded yet, and its (height, width)."""

    data: bytes
    size: tuple[int, int]

    def decode(self, factor: int) -> np.ndarray | None:
        """Decode to RGB uint8, with the size divided by ``factor`` (1, 2, 4 or 8) and rounded up; None if damaged."""
        return decode_jpeg(self.data, factor)
