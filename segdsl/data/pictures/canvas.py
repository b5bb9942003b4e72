"""The parts that all drawn sheets share: width, header, legend, and the output file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw

from segdsl.data.formats.labels import LabelSpace
from segdsl.data.pictures.palette import Color, make_class_colors
from segdsl.data.pictures.text import GREY, INK, PAPER, load_font, make_readable, shorten_text
from segdsl.data.pictures.thumbnails import make_hatching
from segdsl.diagnostics import fail
from segdsl.storage.atomic import write_atomically

IMAGE_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
"""File extensions of the supported image formats; JPEG reproduces class colors only approximately."""
WIDTH, MARGIN, GAP = 1600, 48, 28
"""Width of a sheet, margin around it, and gap between two pairs, in pixels."""
INNER_WIDTH = WIDTH - 2 * MARGIN
"""Pixels between the margins."""
SWATCH_SIZE, ENTRY_HEIGHT = 22, 34
"""Size of a color in the legend, and height of a legend line."""


class LegendEntry(NamedTuple):
    """A line of the legend: a color (None for the hatching of ignored pixels), a name, and a note in gray."""

    color: Color | None
    text: str
    note: str = ""


def require_sheet_target(out: Path, root: Path) -> None:
    """Reject an output path that cannot be used, before anything is read.

    Raises :class:`SegError` (`sheet-ending`, `sheet-target-taken`).
    """
    if out.is_dir():
        message = "the output path is a folder, not a file"
        raise fail("sheet-target-taken", message, f"choose a file, such as `{out / 'sheet.png'}`", path=str(out))
    if out.suffix.lower() not in IMAGE_FORMATS:
        message = f"`{out.suffix or out.name}` is not a supported image format"
        help = f"name it `{out.with_suffix('.png')}`; supported are {', '.join(IMAGE_FORMATS)}"
        raise fail("sheet-ending", message, help, path=str(out))
    if Path(os.path.realpath(out)).is_relative_to(os.path.realpath(root)):
        message = "the output file is inside the dataset and would be read as one of its images"
        raise fail("sheet-target-taken", message, "choose a file outside the dataset", path=str(out))


def write_sheet_image(image: Image.Image, out: Path) -> None:
    """Write a sheet to a file in one of the :data:`IMAGE_FORMATS`, completely or not at all.

    Raises :class:`SegError` (`sheet-not-written`).
    """
    content = BytesIO()
    image.save(content, IMAGE_FORMATS[out.suffix.lower()], quality=95, subsampling=0)
    try:
        write_atomically(out, content.getbuffer())
    except OSError as error:
        reason = (error.strerror or "refused by the operating system").lower()
        help = "choose another file, or free some disk space"
        raise fail("sheet-not-written", f"cannot write the sheet: {reason}", help, path=str(out)) from error


def choose_colors(labels: LabelSpace) -> list[Color]:
    """Return the dataset's own colors, and colors of the palette for classes without one."""
    own = [*(() if labels.source_classes else labels.colors), *[None] * len(labels.classes)]
    return [mine or chosen for mine, chosen in zip(own, make_class_colors(labels.classes), strict=False)]


def make_legend(classes: Sequence[str], colors: Sequence[Color], notes: Sequence[str] = ()) -> list[LegendEntry]:
    """Return one legend entry per class, with its note if there is one."""
    names = [shorten_text(make_readable(name, f"class {k}"), load_font(17), 260) for k, name in enumerate(classes)]
    return [LegendEntry(*entry) for entry in zip(colors, names, notes or [""] * len(names), strict=True)]


def draw_header(title: str, subtitle: str, entries: Sequence[LegendEntry]) -> Image.Image:
    """Draw title, subtitle and legend over the whole width."""
    face = load_font(17)
    widest = max(face.getlength(text) + face.getlength(note) for _, text, note in entries)
    columns = min(max(1, int(INNER_WIDTH // (widest + SWATCH_SIZE + 64))), len(entries))
    lines = -(-len(entries) // columns)
    canvas = Image.new("RGB", (WIDTH, 132 + lines * ENTRY_HEIGHT + GAP), PAPER)
    draw = ImageDraw.Draw(canvas)
    draw.text((MARGIN, 38), shorten_text(title, load_font(34), INNER_WIDTH), fill=INK, font=load_font(34))
    draw.text(
        (MARGIN, 84), shorten_text(subtitle, load_font(18), INNER_WIDTH, at_end=True), fill=GREY, font=load_font(18)
    )
    step = INNER_WIDTH // max(columns, 4)
    for number, entry in enumerate(entries):
        _draw_entry(canvas, (MARGIN + number // lines * step, 132 + number % lines * ENTRY_HEIGHT), entry)
    return canvas


def _draw_entry(canvas: Image.Image, at: tuple[int, int], entry: LegendEntry) -> None:
    draw, face, (left, top) = ImageDraw.Draw(canvas), load_font(17), at
    if entry.color is None:
        canvas.paste(Image.fromarray(make_hatching(SWATCH_SIZE, SWATCH_SIZE)), at)
    draw.rectangle((left, top, left + SWATCH_SIZE - 1, top + SWATCH_SIZE - 1), fill=entry.color, outline=GREY)
    draw.text((left + SWATCH_SIZE + 12, top + SWATCH_SIZE / 2), entry.text, fill=INK, font=face, anchor="lm")
    after = left + SWATCH_SIZE + 12 + face.getlength(entry.text) + 10
    draw.text((after, top + SWATCH_SIZE / 2), entry.note, fill=GREY, font=face, anchor="lm")
