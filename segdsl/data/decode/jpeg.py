"""JPEG by OpenCV: twice as fast as Pillow and equal to it in every value; at a half, a quarter or an eighth of the size
where that is enough.

It gives a part of a truncated file without a word, so that it is given only files that have their end.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

FACTORS = {
    1: cv2.IMREAD_COLOR_RGB,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
"""How OpenCV decodes at the size divided by a factor."""
END = b"\xff\xd9"


def is_whole_jpeg(picture: Image.Image, data: bytes) -> bool:
    """Whether an opened file is a JPEG of RGB or grey that has its end."""
    return picture.format == "JPEG" and picture.mode in ("RGB", "L") and data.rfind(END, -64) >= 0


def decoded_jpeg(data: bytes, factor: int = 1) -> np.ndarray | None:
    """A JPEG as RGB uint8 (H, W, 3), not turned, its size divided by ``factor`` and rounded up. None where damaged."""
    found = cv2.imdecode(np.frombuffer(data, np.uint8), FACTORS[factor] | cv2.IMREAD_IGNORE_ORIENTATION)
    return found if found is None or factor == 1 else cv2.cvtColor(found, cv2.COLOR_BGR2RGB)


class Reducible(NamedTuple):
    """A JPEG that lies upright and is not decoded yet, and its (height, width)."""

    data: bytes
    size: tuple[int, int]

    def decode(self, factor: int) -> np.ndarray | None:
        """RGB uint8 at the size divided by ``factor`` (1, 2, 4 or 8) and rounded up; None where it is damaged."""
        return decoded_jpeg(self.data, factor)
