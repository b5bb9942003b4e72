"""Images of a segmentation: masks whose values are class ids, and overlays tinted by class with a legend."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image as Pictures
from PIL import ImageDraw, ImageFont

from segdsl.data.decode.images import convert_to_rgb
from segdsl.data.pictures.palette import ClassStyle, Color
from segdsl.inference.preprocess import Image, Mask

TINT_OPACITY = 0.45
"""Opacity of a class's color over the image."""
MIN_LEGEND_WIDTH = 240
"""Minimum width of a legend in pixels, however small the image is."""


def encode_mask_png(mask: Mask, colors: Sequence[Color]) -> bytes:
    """Encode a mask (H, W) as a palette PNG: pixel values are class ids, the palette holds the classes' colors."""
    png = Pictures.fromarray(mask)
    palette = [channel for color in colors for channel in color]
    # All 256 entries are set, since readers differ in how they treat a shorter palette.
    png.putpalette(palette + [128] * (768 - len(palette)))
    stream = BytesIO()
    png.save(stream, "PNG")
    return stream.getvalue()


def render_overlay_png(image: Image, mask: Mask, styles: Sequence[ClassStyle]) -> bytes:
    """Render the image tinted by class, with borders and a legend of its classes and their shares, as PNG."""
    tinted = Pictures.fromarray(tint_classes(convert_to_rgb(image), mask, styles))
    counts = np.bincount(mask.ravel(), minlength=len(styles))
    shares = {k: count / mask.size for k, count in enumerate(counts.tolist()) if count}
    # The background is not tinted, so its swatch has no color.
    swatches = ["white" if style.is_clear else style.color for style in styles]
    order = sorted(shares.items(), key=lambda entry: -entry[1])
    entries = [(swatches[k], f"{styles[k].name} {share:.1%}") for k, share in order]
    legend = _draw_legend(entries, max(tinted.width, MIN_LEGEND_WIDTH))
    canvas = Pictures.new("RGB", (legend.width, tinted.height + legend.height), "white")
    canvas.paste(tinted, (0, 0))
    canvas.paste(legend, (0, tinted.height))
    stream = BytesIO()
    canvas.save(stream, "PNG", compress_level=3)
    return stream.getvalue()


def tint_classes(image: Image, mask: Mask, styles: Sequence[ClassStyle]) -> Image:
    """Blend an image (H, W, 3) with the color of each pixel's class, with a border in full color around each region."""
    table = np.zeros((256, 3), np.float32)
    table[: len(styles)] = [style.color for style in styles]
    opacities = np.zeros(256, np.float32)
    opacities[: len(styles)] = [0.0 if style.is_clear else TINT_OPACITY for style in styles]
    opacity = opacities[mask]
    opacity[_find_borders(mask) & (opacity > 0)] = 1.0
    opacity = opacity[..., None]
    return (image * (1 - opacity) + table[mask] * opacity).round().astype(np.uint8)


def _find_borders(mask: Mask) -> npt.NDArray[np.bool_]:
    """Return the pixels (H, W) with a neighbor of another class."""
    border = np.zeros(mask.shape, bool)
    down, right = mask[1:] != mask[:-1], mask[:, 1:] != mask[:, :-1]
    border[1:] |= down
    border[:-1] |= down
    border[:, 1:] |= right
    border[:, :-1] |= right
    return border


def _draw_legend(entries: Sequence[tuple[Color | str, str]], width: int) -> Pictures.Image:
    """Draw swatches and labels in as many rows as needed; truncate a label that is wider than a row."""
    # Scales with the image, so that a legend stays legible when a large image is shown small.
    size = min(max(width // 40, 12), 32)
    font = ImageFont.load_default(size)
    row, pad = round(size * 1.6), size // 2
    places: list[tuple[int, int, Color | str, str]] = []
    x, y = pad, pad // 2
    for color, text in entries:
        text = _truncate_text(text, font, width - 3 * pad - size)
        needed = size + pad + round(font.getlength(text))
        if x > pad and x + needed + pad > width:
            x, y = pad, y + row
        places.append((x, y, color, text))
        x += needed + 2 * pad
    legend = Pictures.new("RGB", (width, y + row + pad // 2), "white")
    draw = ImageDraw.Draw(legend)
    for x, y, color, text in places:
        top = y + (row - size) // 2
        draw.rectangle((x, top, x + size - 1, top + size - 1), fill=color, outline=(90, 90, 90))
        draw.text((x + size + pad, y + row / 2), text, fill=(20, 20, 20), font=font, anchor="lm")
    return legend


def _truncate_text(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    text = " ".join(text.split())
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text}…"
