"""The colours in which classes are drawn where a data set has none of its own."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

Color = tuple[int, int, int]

BACKGROUND = "background"
"""Name of the class that is drawn in black, and left untinted in predictions."""

_COLORS: tuple[Color, ...] = (
    (228, 54, 60), (46, 134, 222), (52, 172, 88), (250, 176, 36), (148, 82, 196), (24, 188, 190),
    (240, 110, 170), (150, 190, 40), (250, 120, 50), (110, 120, 230), (150, 98, 60), (20, 120, 100),
)  # fmt: skip


def class_colors(classes: Sequence[str]) -> list[Color]:
    """One colour for each class: black for the background, else twelve chosen ones, then hues of the golden angle."""
    others = iter(range(len(classes)))
    return [(0, 0, 0) if is_background(name) else _color(next(others)) for name in classes]


def is_background(name: str) -> bool:
    """Whether a class is the one that stands for nothing in particular."""
    return name.lower() == BACKGROUND


def _color(k: int) -> Color:
    if k < len(_COLORS):
        return _COLORS[k]
    red, green, blue = colorsys.hsv_to_rgb(k * 0.381966 % 1.0, 0.5 + 0.4 * (k % 2), 0.9 - 0.3 * (k % 3) / 2)
    return round(red * 255), round(green * 255), round(blue * 255)
