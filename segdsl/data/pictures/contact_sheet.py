"""A contact sheet of a dataset: some images, each with its mask, and a legend of the classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw

from segdsl.data.decode.images import read_image, visible
from segdsl.data.formats.color_masks import read_ids
from segdsl.data.pictures.canvas import (
    GAP,
    INSIDE,
    MARGIN,
    WIDTH,
    Entry,
    colors_of,
    head,
    legend,
    require_target,
    write_picture,
)
from segdsl.data.pictures.palette import Color
from segdsl.data.pictures.text import GREY, INK, PANEL, PAPER, cut, font, readable
from segdsl.data.pictures.thumbnails import drawn, fitted, shrunk, small_mask
from segdsl.data.stats.representative import Pick, picked
from segdsl.data.stats.survey import Survey

SEAM = 4
"""Pixels between an image and its mask."""
PANEL_AREA = 52_000
"""Approximate number of pixels of an image on the sheet; its aspect ratio is that of the images."""
LEAST_IMAGES = 12
CAPTION = 48
"""Height of the two lines of text below an image, in pixels."""


class Geometry(NamedTuple):
    """The layout of the pairs: the size of a panel, and the number of pairs per row."""

    width: int
    height: int
    columns: int

    @property
    def pair(self) -> int:
        """The width of an image and its mask."""
        return 2 * self.width + SEAM


def write_sheet(found: Survey, out: Path) -> None:
    """Write the sheet of a survey without errors to a file, completely or not at all.

    Raises :class:`SegError` if the file cannot be written (`sheet-not-written`), and as :func:`require_sheet_target`
    does.
    """
    require_target(out, found.report.root)
    write_picture(sheet(found), out)


def sheet(found: Survey) -> Image.Image:
    """Draw the sheet of a survey without errors, RGB, :data:`WIDTH` wide. Raises :class:`SegError` for an unreadable
    file."""
    geometry = geometry_of(found)
    picks = picked(found, -(-LEAST_IMAGES // geometry.columns) * geometry.columns)
    assert found.layout is not None and found.layout.labels is not None
    colors = colors_of(found.layout.labels)
    top = head(_title(found), _numbers(found), _entries(found, colors))
    row = geometry.height + CAPTION + GAP
    rows = -(-len(picks) // geometry.columns)
    canvas = Image.new("RGB", (WIDTH, top.height + rows * row - GAP + MARGIN), PAPER)
    canvas.paste(top, (0, 0))
    for number, pick in enumerate(picks):
        left = MARGIN + number % geometry.columns * (geometry.pair + GAP)
        place = (left, top.height + number // geometry.columns * row)
        _draw_pair(canvas, place, found, pick, geometry, colors)
    return canvas


def geometry_of(found: Survey) -> Geometry:
    """Return panels with the median aspect ratio of all images and about :data:`PANEL_AREA` pixels each."""
    shapes = sorted(stats.aspects().median for stats in found.subsets.values())
    aspect = min(max(shapes[len(shapes) // 2], 0.4), 3.0)
    columns = max(1, round((INSIDE + GAP) / (2 * (PANEL_AREA * aspect) ** 0.5 + SEAM + GAP)))
    width = ((INSIDE + GAP) // columns - GAP - SEAM) // 2
    return Geometry(width, round(width / aspect), columns)


def _entries(found: Survey, colors: Sequence[Color]) -> list[Entry]:
    """Return each class with its share of the pixels, ignored pixels last."""
    subsets = found.subsets.values()
    whole = sum(stats.pixels for stats in subsets)
    shares = [sum(stats.of(k).pixels for stats in subsets) / whole for k in [*range(len(colors)), found.ignore]]
    entries = legend(found.classes, colors, [_percent(share) for share in shares[:-1]])
    return [*entries, Entry(None, "void", _percent(shares[-1]))] if shares[-1] else entries


def _percent(share: float) -> str:
    return f"{share:.1%}" if share >= 0.001 or not share else "<0.1%"


def _title(found: Survey) -> str:
    return readable(found.report.root.resolve().name, "dataset")


def _numbers(found: Survey) -> str:
    counts = ", ".join(f"{stats.images:,} {readable(name, '?')}" for name, stats in found.subsets.items())
    many = len(found.classes)
    return f"{counts} images  ·  {many} class{'es' if many != 1 else ''}  ·  {found.report.format}"


def _draw_pair(
    canvas: Image.Image, at: tuple[int, int], found: Survey, pick: Pick, geometry: Geometry, colors: Sequence[Color]
) -> None:
    """Draw an image, its mask, and two lines of text below."""
    stats = found.subsets[pick.subset]
    assert found.layout is not None and found.layout.labels is not None
    labels = found.layout.labels
    image = visible(read_image(stats.subset.image(pick.position), found.asked.reading))
    mask = read_ids(stats.subset.mask(pick.position), labels)
    size = fitted(mask.shape[0], mask.shape[1], (geometry.height, geometry.width))
    small, order = shrunk(image, size), sorted(stats.values, key=lambda v: -stats.of(v).pixels)
    over = drawn(small, small_mask(mask, size, order), colors, found.ignore)
    draw = ImageDraw.Draw(canvas)
    for left, pixels in ((at[0], small), (at[0] + geometry.width + SEAM, over)):
        draw.rectangle((left, at[1], left + geometry.width - 1, at[1] + geometry.height - 1), fill=PANEL)
        place = (left + (geometry.width - size[1]) // 2, at[1] + (geometry.height - size[0]) // 2)
        canvas.paste(Image.fromarray(pixels), place)
    name = readable(stats.subset.image(pick.position).name, f"image {pick.position}")
    top = at[1] + geometry.height + 9
    draw.text((at[0], top), cut(name, font(16), geometry.pair), fill=INK, font=font(16))
    about = _about(found, pick, mask.shape)
    draw.text((at[0], top + 21), cut(about, font(14), geometry.pair, end=True), fill=GREY, font=font(14))


def _about(found: Survey, pick: Pick, size: Sequence[int]) -> str:
    """Return subset, size, and the classes for which the image was chosen."""
    shows = ", ".join(f"{readable(found.classes[k], f'class {k}')} {_percent(share)}" for k, share in pick.shows)
    return "  ·  ".join(filter(None, [readable(pick.subset, "?"), f"{size[0]}x{size[1]}", shows]))
