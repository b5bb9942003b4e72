"""The sheet of a preview: one row per sample, with its stages side by side and their masks below."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from segdsl.data.pictures.canvas import (
    GAP,
    INNER_WIDTH,
    MARGIN,
    WIDTH,
    LegendEntry,
    choose_colors,
    draw_header,
    make_legend,
)
from segdsl.data.pictures.palette import Color
from segdsl.data.pictures.preview import LAST_STAGE, Preview, PreviewSample, Stage, sort_values_by_frequency
from segdsl.data.pictures.text import GREY, INK, PANEL, PAPER, load_font, make_readable, shorten_text
from segdsl.data.pictures.thumbnails import draw_overlay, fit_box, resize_thumbnail, shrink_mask

STAGE_GAP, MASK_GAP = 14, 4
"""Gap between two stages, and between an image and its mask, in pixels."""
MIN_WIDTH, MIN_HEIGHT, MAX_HEIGHT = 145, 90, 320
"""Bounds of an image, in pixels: if it would be smaller, the stages continue on another line."""
NAME_HEIGHT, LABEL_HEIGHT, FOOT_HEIGHT = 46, 46, 22
"""Height of the file name, of the two lines above a stage, and of the space below a line of stages, in pixels."""
FADE = 0.62
"""Share of the background color that covers a stage without changes."""


class PreviewGeometry(NamedTuple):
    """The layout of the stages: the width of each, line by line, and the height of an image."""

    lines: tuple[tuple[int, ...], ...]
    height: int

    @property
    def line_height(self) -> int:
        """The height of a line, with its text and the space below it."""
        return LABEL_HEIGHT + 2 * self.height + MASK_GAP + FOOT_HEIGHT

    @property
    def row_height(self) -> int:
        """The height of a sample."""
        return NAME_HEIGHT + len(self.lines) * self.line_height


def draw_preview_sheet(found: Preview) -> Image.Image:
    """Draw the sheet of a preview, RGB, :data:`WIDTH` wide."""
    geometry = compute_preview_geometry(found.samples)
    colors = choose_colors(found.index.labels)
    entries = make_legend(found.index.classes, colors)
    if any((stage.mask == found.index.ignore).any() for shown in found.samples for stage in shown.stages):
        entries.append(LegendEntry(None, "void"))
    top = draw_header(_format_title(found), _format_subtitle(found), entries)
    row = geometry.row_height + GAP
    canvas = Image.new("RGB", (WIDTH, top.height + len(found.samples) * row - GAP + MARGIN - FOOT_HEIGHT), PAPER)
    canvas.paste(top, (0, 0))
    for number, shown in enumerate(found.samples):
        _draw_sample(canvas, top.height + number * row, shown, geometry, colors, found.index.ignore)
    return canvas


def compute_preview_geometry(samples: Sequence[PreviewSample]) -> PreviewGeometry:
    """Return stages as large as the width allows, each with the median aspect ratio over all samples."""
    stages = zip(*(shown.stages for shown in samples), strict=True)
    return lay_out([min(max(median(s.size[1] / s.size[0] for s in stage), 0.4), 3.0) for stage in stages])


def lay_out(aspects: Sequence[float]) -> PreviewGeometry:
    """Lay out images of equal height with these aspect ratios, in as few lines as keep them readable."""
    for lines in range(1, len(aspects) + 1):
        parts = _balance_lines(aspects, lines)
        height = min(MAX_HEIGHT, *(int((INNER_WIDTH - (len(p) - 1) * STAGE_GAP) / sum(p)) for p in parts))
        if height == MAX_HEIGHT or (height >= MIN_HEIGHT and height * min(aspects) >= MIN_WIDTH):
            break
    return PreviewGeometry(tuple(tuple(int(height * a) for a in part) for part in parts), height)


def _balance_lines(aspects: Sequence[float], lines: int) -> list[list[float]]:
    """Split the images into at most ``lines`` lines, so that the longest line is as short as possible."""
    lengths = sorted({sum(aspects[a:b]) for b in range(1, len(aspects) + 1) for a in range(b)})
    return next(parts for most in lengths if len(parts := list(_fill_lines(aspects, most))) <= lines)


def _fill_lines(aspects: Sequence[float], most: float) -> Iterator[list[float]]:
    line: list[float] = []
    for aspect in aspects:
        if line and sum([*line, aspect]) > most + 1e-6:
            yield line
            line = []
        line.append(aspect)
    yield line


def _format_title(found: Preview) -> str:
    return f"{make_readable(found.program.name, 'a program')}: what the network sees"


def _format_subtitle(found: Preview) -> str:
    data, images = found.program.data, len(found.index.get_subset(found.program.data.train.subset))
    root = make_readable(found.index.root.resolve().name, "dataset")
    run = f"epoch {found.epoch + 1}  ·  seed {found.program.train.seed}  ·  input {data.input_size}"
    return f"{len(found.samples)} of {images:,} images, {root} {make_readable(data.train.subset, '?')}  ·  {run}"


def _draw_sample(
    canvas: Image.Image, top: int, shown: PreviewSample, geometry: PreviewGeometry, colors: Sequence[Color], ignore: int
) -> None:
    """Draw a rule, the file name, and the stages."""
    draw = ImageDraw.Draw(canvas)
    draw.line((MARGIN, top, WIDTH - MARGIN - 1, top), fill=PANEL, width=2)
    size = "{}x{}".format(*shown.stages[0].size)
    notes = "  ·  ".join([size, *(["used again with a new draw"] if shown.key.draw else [])])
    name = shorten_text(
        make_readable(shown.image_path.name, f"image {shown.key.position}"), load_font(18), INNER_WIDTH - 400
    )
    draw.text((MARGIN, top + 14), name, fill=INK, font=load_font(18))
    draw.text((MARGIN + load_font(18).getlength(name) + 14, top + 16), notes, fill=GREY, font=load_font(16))
    stages = iter(shown.stages)
    for number, widths in enumerate(geometry.lines):
        left = MARGIN
        for width, stage in zip(widths, stages, strict=False):
            place = (left, top + NAME_HEIGHT + number * geometry.line_height)
            _draw_stage(canvas, place, stage, (geometry.height, width), colors, ignore)
            left += width + STAGE_GAP


def _draw_stage(
    canvas: Image.Image,
    at: tuple[int, int],
    stage: Stage,
    box: tuple[int, int],
    colors: Sequence[Color],
    ignore: int,
) -> None:
    """Draw the label of a stage, its image, and its mask below."""
    _draw_label(canvas, at, stage, box[1])
    size = fit_box(stage.image.shape[0], stage.image.shape[1], box)
    small = resize_thumbnail(stage.image, size)
    over = draw_overlay(small, shrink_mask(stage.mask, size, sort_values_by_frequency(stage.mask)), colors, ignore)
    draw = ImageDraw.Draw(canvas)
    for number, pixels in enumerate((small, over)):
        top = at[1] + LABEL_HEIGHT + number * (box[0] + MASK_GAP)
        draw.rectangle((at[0], top, at[0] + box[1] - 1, top + box[0] - 1), fill=PANEL)
        place = (at[0] + (box[1] - size[1]) // 2, top + (box[0] - size[0]) // 2)
        canvas.paste(Image.fromarray(_fade_pixels(pixels) if stage.is_idle else pixels), place)


def _fade_pixels(pixels: np.ndarray) -> np.ndarray:
    return (pixels * (1 - FADE) + np.array(PAPER) * FADE).round().astype(np.uint8)


def _draw_label(canvas: Image.Image, at: tuple[int, int], stage: Stage, width: int) -> None:
    draw, face, small = ImageDraw.Draw(canvas), load_font(16), load_font(14)
    note = "unchanged" if stage.is_idle else "{}x{}".format(*stage.size)
    room = width - small.getlength(note) - 10
    draw.text((at[0], at[1] + 2), shorten_text(make_readable(stage.name, "step"), face, room), fill=INK, font=face)
    draw.text((at[0] + width, at[1] + 4), note, fill=GREY, font=small, anchor="ra")
    draw.text((at[0], at[1] + 22), shorten_text(_format_stage_label(stage), small, width), fill=GREY, font=small)


def _format_stage_label(stage: Stage) -> str:
    return stage.word or ("network input" if stage.name == LAST_STAGE else "as decoded")
