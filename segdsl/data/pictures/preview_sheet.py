"""The sheet of a preview: one row per sample, with its stages side by side and their masks below."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from segdsl.data.pictures.canvas import GAP, INSIDE, MARGIN, WIDTH, Entry, colors_of, head, legend
from segdsl.data.pictures.palette import Color
from segdsl.data.pictures.preview import LAST, Preview, Shown, Stage, frequent
from segdsl.data.pictures.text import GREY, INK, PANEL, PAPER, cut, font, readable
from segdsl.data.pictures.thumbnails import drawn, fitted, shrunk, small_mask

BETWEEN, SEAM = 14, 4
"""Gap between two stages, and between an image and its mask, in pixels."""
LEAST_WIDTH, LEAST_HEIGHT, MOST_HEIGHT = 145, 90, 320
"""Bounds of an image, in pixels: if it would be smaller, the stages continue on another line."""
NAME, LABEL, FOOT = 46, 46, 22
"""Height of the file name, of the two lines above a stage, and of the space below a line of stages, in pixels."""
PALED = 0.62
"""Share of the background color that covers a stage without changes."""


class Geometry(NamedTuple):
    """The layout of the stages: the width of each, line by line, and the height of an image."""

    lines: tuple[tuple[int, ...], ...]
    height: int

    @property
    def line(self) -> int:
        """The height of a line, with its text and the space below it."""
        return LABEL + 2 * self.height + SEAM + FOOT

    @property
    def row(self) -> int:
        """The height of a sample."""
        return NAME + len(self.lines) * self.line


def preview_sheet(found: Preview) -> Image.Image:
    """Draw the sheet of a preview, RGB, :data:`WIDTH` wide."""
    geometry = geometry_of(found.samples)
    colors = colors_of(found.index.labels)
    entries = legend(found.index.classes, colors)
    if any((stage.mask == found.index.ignore).any() for shown in found.samples for stage in shown.stages):
        entries.append(Entry(None, "void"))
    top = head(_title(found), _about(found), entries)
    row = geometry.row + GAP
    canvas = Image.new("RGB", (WIDTH, top.height + len(found.samples) * row - GAP + MARGIN - FOOT), PAPER)
    canvas.paste(top, (0, 0))
    for number, shown in enumerate(found.samples):
        _draw_sample(canvas, top.height + number * row, shown, geometry, colors, found.index.ignore)
    return canvas


def geometry_of(samples: Sequence[Shown]) -> Geometry:
    """Return stages as large as the width allows, each with the median aspect ratio over all samples."""
    stages = zip(*(shown.stages for shown in samples), strict=True)
    return laid_out([min(max(median(s.size[1] / s.size[0] for s in stage), 0.4), 3.0) for stage in stages])


def laid_out(aspects: Sequence[float]) -> Geometry:
    """Lay out images of equal height with these aspect ratios, in as few lines as keep them readable."""
    for lines in range(1, len(aspects) + 1):
        parts = _evenly(aspects, lines)
        height = min(MOST_HEIGHT, *(int((INSIDE - (len(p) - 1) * BETWEEN) / sum(p)) for p in parts))
        if height == MOST_HEIGHT or (height >= LEAST_HEIGHT and height * min(aspects) >= LEAST_WIDTH):
            break
    return Geometry(tuple(tuple(int(height * a) for a in part) for part in parts), height)


def _evenly(aspects: Sequence[float], lines: int) -> list[list[float]]:
    """Split the images into at most ``lines`` lines, so that the longest line is as short as possible."""
    lengths = sorted({sum(aspects[a:b]) for b in range(1, len(aspects) + 1) for a in range(b)})
    return next(parts for most in lengths if len(parts := list(_filled(aspects, most))) <= lines)


def _filled(aspects: Sequence[float], most: float) -> Iterator[list[float]]:
    line: list[float] = []
    for aspect in aspects:
        if line and sum([*line, aspect]) > most + 1e-6:
            yield line
            line = []
        line.append(aspect)
    yield line


def _title(found: Preview) -> str:
    return f"{readable(found.program.name, 'a program')}: what the network sees"


def _about(found: Preview) -> str:
    data, images = found.program.data, len(found.index.subset(found.program.data.train.subset))
    root = readable(found.index.root.resolve().name, "dataset")
    run = f"epoch {found.epoch + 1}  ·  seed {found.program.train.seed}  ·  input {data.input_size}"
    return f"{len(found.samples)} of {images:,} images, {root} {readable(data.train.subset, '?')}  ·  {run}"


def _draw_sample(
    canvas: Image.Image, top: int, shown: Shown, geometry: Geometry, colors: Sequence[Color], ignore: int
) -> None:
    """Draw a rule, the file name, and the stages."""
    draw = ImageDraw.Draw(canvas)
    draw.line((MARGIN, top, WIDTH - MARGIN - 1, top), fill=PANEL, width=2)
    size = "{}x{}".format(*shown.stages[0].size)
    notes = "  ·  ".join([size, *(["used again with a new draw"] if shown.key.draw else [])])
    name = cut(readable(shown.file.name, f"image {shown.key.position}"), font(18), INSIDE - 400)
    draw.text((MARGIN, top + 14), name, fill=INK, font=font(18))
    draw.text((MARGIN + font(18).getlength(name) + 14, top + 16), notes, fill=GREY, font=font(16))
    stages = iter(shown.stages)
    for number, widths in enumerate(geometry.lines):
        left = MARGIN
        for width, stage in zip(widths, stages, strict=False):
            place = (left, top + NAME + number * geometry.line)
            _draw_stage(canvas, place, stage, (geometry.height, width), colors, ignore)
            left += width + BETWEEN


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
    size = fitted(stage.image.shape[0], stage.image.shape[1], box)
    small = shrunk(stage.image, size)
    over = drawn(small, small_mask(stage.mask, size, frequent(stage.mask)), colors, ignore)
    draw = ImageDraw.Draw(canvas)
    for number, pixels in enumerate((small, over)):
        top = at[1] + LABEL + number * (box[0] + SEAM)
        draw.rectangle((at[0], top, at[0] + box[1] - 1, top + box[0] - 1), fill=PANEL)
        place = (at[0] + (box[1] - size[1]) // 2, top + (box[0] - size[0]) // 2)
        canvas.paste(Image.fromarray(_pale(pixels) if stage.idle else pixels), place)


def _pale(pixels: np.ndarray) -> np.ndarray:
    return (pixels * (1 - PALED) + np.array(PAPER) * PALED).round().astype(np.uint8)


def _draw_label(canvas: Image.Image, at: tuple[int, int], stage: Stage, width: int) -> None:
    draw, face, small = ImageDraw.Draw(canvas), font(16), font(14)
    note = "unchanged" if stage.idle else "{}x{}".format(*stage.size)
    room = width - small.getlength(note) - 10
    draw.text((at[0], at[1] + 2), cut(readable(stage.name, "step"), face, room), fill=INK, font=face)
    draw.text((at[0] + width, at[1] + 4), note, fill=GREY, font=small, anchor="ra")
    draw.text((at[0], at[1] + 22), cut(_under(stage), small, width), fill=GREY, font=small)


def _under(stage: Stage) -> str:
    return stage.word or ("network input" if stage.name == LAST else "as decoded")
