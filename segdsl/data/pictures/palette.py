"""The colors of classes: those of the dataset, and a palette for classes without one."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

from segdsl.data.formats.labels import LabelSpace

Color = tuple[int, int, int]

BACKGROUND = "background"
"""Name of the class that is drawn in black, and not tinted in predictions."""

_PALETTE: tuple[Color, ...] = (
    (228, 54, 60), (46, 134, 222), (52, 172, 88), (250, 176, 36), (148, 82, 196), (24, 188, 190),
    (240, 110, 170), (150, 190, 40), (250, 120, 50), (110, 120, 230), (150, 98, 60), (20, 120, 100),
)  # fmt: skip


def choose_colors(labels: LabelSpace) -> list[Color]:
    """Return the dataset's own colors, and colors of the palette for classes without one."""
    own = [*(() if labels.source_classes else labels.colors), *[None] * len(labels.classes)]
    return [mine or chosen for mine, chosen in zip(own, make_class_colors(labels.classes), strict=False)]


def format_color(color: Color) -> str:
    """Format a color as in HTML."""
    return "#{:02x}{:02x}{:02x}".format(*color)


def make_class_colors(classes: Sequence[str]) -> list[Color]:
    """Return one color per class: black for the background, then a palette of twelve, then hues at golden-angle
    steps."""
    others = iter(range(len(classes)))
    return [(0, 0, 0) if is_background(name) else _pick_color(next(others)) for name in classes]


def is_background(name: str) -> bool:
    """Return whether a class is the background."""
    return name.lower() == BACKGROUND


def _pick_color(k: int) -> Color:
    if k < len(_PALETTE):
        return _PALETTE[k]
    # 0.381966 of a turn is the golden angle: successive hues stay far apart, however many there are. Alternating
    # saturation and value separates neighbors further.
    red, green, blue = colorsys.hsv_to_rgb(k * 0.381966 % 1.0, 0.5 + 0.4 * (k % 2), 0.9 - 0.3 * (k % 3) / 2)
    return round(red * 255), round(green * 255), round(blue * 255)
