"""A contact sheet of a dataset: some images, each with its mask, and a legend of the classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw

from segdsl.data.decode.images import convert_to_rgb, read_image
from segdsl.data.formats.color_masks import read_class_ids
from segdsl.data.pictures.canvas import (
    GAP,
    INNER_WIDTH,
    MARGIN,
    WIDTH,
    LegendEntry,
    choose_colors,
    draw_header,
    make_legend,
    require_sheet_target,
    write_sheet_image,
)
from segdsl.data.pictures.palette import Color
from segdsl.data.pictures.text import GREY, INK, PANEL, PAPER, load_font, make_readable, shorten_text
from segdsl.data.pictures.thumbnails import draw_overlay, fit_box, resize_thumbnail, shrink_mask
from segdsl.data.stats.representative import Pick, pick_images
from segdsl.data.stats.survey import Survey

MASK_GAP = 4
"""Pixels between an image and its mask."""
PANEL_AREA = 52_000
"""Approximate number of pixels of an image on the sheet; its aspect ratio is that of the images."""
MIN_IMAGES = 12
CAPTION_HEIGHT = 48
"""Height of the two lines of text below an image, in pixels."""


class SheetGeometry(NamedTuple):
    """The layout of the pairs: the size of a panel, and the number of pairs per row."""

    width: int
    height: int
    columns: int

    @property
    def pair_width(self) -> int:
        """The width of an image and its mask."""
        return 2 * self.width + MASK_GAP


def write_contact_sheet(found: Survey, out: Path) -> None:
    """Write the sheet of a survey without errors to a file, completely or not at all.

    Raises :class:`SegError` if the file cannot be written (`sheet-not-written`), and as :func:`require_sheet_target`
    does.
    """
    require_sheet_target(out, found.report.root)
    write_sheet_image(draw_contact_sheet(found), out)


def draw_contact_sheet(found: Survey) -> Image.Image:
    """Draw the sheet of a survey without errors, RGB, :data:`WIDTH` wide. Raises :class:`SegError` for an unreadable
    file."""
    geometry = compute_sheet_geometry(found)
    picks = pick_images(found, -(-MIN_IMAGES // geometry.columns) * geometry.columns)
    assert found.layout is not None and found.layout.labels is not None
    colors = choose_colors(found.layout.labels)
    top = draw_header(_make_title(found), _format_image_counts(found), _make_legend_entries(found, colors))
    row = geometry.height + CAPTION_HEIGHT + GAP
    rows = -(-len(picks) // geometry.columns)
    canvas = Image.new("RGB", (WIDTH, top.height + rows * row - GAP + MARGIN), PAPER)
    canvas.paste(top, (0, 0))
    for number, pick in enumerate(picks):
        left = MARGIN + number % geometry.columns * (geometry.pair_width + GAP)
        place = (left, top.height + number // geometry.columns * row)
        _draw_pair(canvas, place, found, pick, geometry, colors)
    return canvas


def compute_sheet_geometry(found: Survey) -> SheetGeometry:
    """Return panels with the median aspect ratio of all images and about :data:`PANEL_AREA` pixels each."""
    shapes = sorted(stats.compute_aspects().median for stats in found.subsets.values())
    aspect = min(max(shapes[len(shapes) // 2], 0.4), 3.0)
    columns = max(1, round((INNER_WIDTH + GAP) / (2 * (PANEL_AREA * aspect) ** 0.5 + MASK_GAP + GAP)))
    width = ((INNER_WIDTH + GAP) // columns - GAP - MASK_GAP) // 2
    return SheetGeometry(width, round(width / aspect), columns)


def _make_legend_entries(found: Survey, colors: Sequence[Color]) -> list[LegendEntry]:
    """Return each class with its share of the pixels, ignored pixels last."""
    subsets = found.subsets.values()
    whole = sum(stats.pixels for stats in subsets)
    shares = [sum(stats.get_class(k).pixels for stats in subsets) / whole for k in [*range(len(colors)), found.ignore]]
    entries = make_legend(found.classes, colors, [_format_percent(share) for share in shares[:-1]])
    return [*entries, LegendEntry(None, "void", _format_percent(shares[-1]))] if shares[-1] else entries


def _format_percent(share: float) -> str:
    return f"{share:.1%}" if share >= 0.001 or not share else "<0.1%"


def _make_title(found: Survey) -> str:
    return make_readable(found.report.root.resolve().name, "dataset")


def _format_image_counts(found: Survey) -> str:
    counts = ", ".join(f"{stats.images:,} {make_readable(name, '?')}" for name, stats in found.subsets.items())
    many = len(found.classes)
    return f"{counts} images  ·  {many} class{'es' if many != 1 else ''}  ·  {found.report.format}"


def _draw_pair(
    canvas: Image.Image,
    at: tuple[int, int],
    found: Survey,
    pick: Pick,
    geometry: SheetGeometry,
    colors: Sequence[Color],
) -> None:
    """Draw an image, its mask, and two lines of text below."""
    stats = found.subsets[pick.subset]
    assert found.layout is not None and found.layout.labels is not None
    labels = found.layout.labels
    image = convert_to_rgb(read_image(stats.subset.get_image_path(pick.position), found.request.read_options))
    mask = read_class_ids(stats.subset.get_mask_path(pick.position), labels)
    size = fit_box(mask.shape[0], mask.shape[1], (geometry.height, geometry.width))
    small, order = resize_thumbnail(image, size), sorted(stats.values, key=lambda v: -stats.get_class(v).pixels)
    over = draw_overlay(small, shrink_mask(mask, size, order), colors, found.ignore)
    draw = ImageDraw.Draw(canvas)
    for left, pixels in ((at[0], small), (at[0] + geometry.width + MASK_GAP, over)):
        draw.rectangle((left, at[1], left + geometry.width - 1, at[1] + geometry.height - 1), fill=PANEL)
        place = (left + (geometry.width - size[1]) // 2, at[1] + (geometry.height - size[0]) // 2)
        canvas.paste(Image.fromarray(pixels), place)
    name = make_readable(stats.subset.get_image_path(pick.position).name, f"image {pick.position}")
    top = at[1] + geometry.height + 9
    draw.text((at[0], top), shorten_text(name, load_font(16), geometry.pair_width), fill=INK, font=load_font(16))
    about = _format_caption(found, pick, mask.shape)
    draw.text(
        (at[0], top + 21),
        shorten_text(about, load_font(14), geometry.pair_width, at_end=True),
        fill=GREY,
        font=load_font(14),
    )


def _format_caption(found: Survey, pick: Pick, size: Sequence[int]) -> str:
    """Return subset, size, and the classes for which the image was chosen."""
    shows = ", ".join(
        f"{make_readable(found.classes[k], f'class {k}')} {_format_percent(share)}" for k, share in pick.class_shares
    )
    return "  ·  ".join(filter(None, [make_readable(pick.subset, "?"), f"{size[0]}x{size[1]}", shows]))
