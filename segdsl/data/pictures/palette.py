"""The colors of classes: those of the dataset, and a palette for classes without one."""

from __future__ import annotations

import colorsys
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

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


def list_own_colors(labels: LabelSpace) -> list[str]:
    """Return the colors of the classes as in HTML, or nothing if the dataset has none."""
    return [format_color(color) for color in choose_colors(labels)] if any(labels.colors) else []


def parse_colors(texts: Any, classes: Sequence[str]) -> list[Color]:
    """Return the colors that :func:`list_own_colors` gave; those of the palette if they do not fit."""
    is_list = isinstance(texts, list) and len(texts) == len(classes)
    if not is_list or not all(isinstance(text, str) and re.fullmatch("#[0-9a-f]{6}", text) for text in texts):
        return make_class_colors(classes)
    return [(int(text[1:3], 16), int(text[3:5], 16), int(text[5:], 16)) for text in texts]


class ClassStyle(NamedTuple):
    """How a class is drawn over an image; a ``clear`` one is not tinted."""

    name: str
    color: Color
    is_clear: bool


def make_class_styles(
    classes: Sequence[str], colors: Sequence[Color] | None = None, background: str | None = None
) -> list[ClassStyle]:
    """Return the styles of classes; ``background`` is the class that is clear, if it is not called so."""
    chosen = colors or make_class_colors(classes)
    return [
        ClassStyle(name, color, is_background(name) or name == background)
        for name, color in zip(classes, chosen, strict=True)
    ]


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
