"""The parts that all drawn sheets share: width, header, legend, and the output file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw

from segdsl.data.formats.labels import LabelSpace
from segdsl.data.pictures.palette import Color, class_colors
from segdsl.data.pictures.text import GREY, INK, PAPER, cut, font, readable
from segdsl.data.pictures.thumbnails import hatch
from segdsl.diagnostics import fail

ENDINGS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
"""File extensions of the supported image formats; JPEG reproduces class colors only approximately."""
WIDTH, MARGIN, GAP = 1600, 48, 28
"""Width of a sheet, margin around it, and gap between two pairs, in pixels."""
INSIDE = WIDTH - 2 * MARGIN
"""Pixels between the margins."""
SWATCH, ENTRY = 22, 34
"""Size of a color in the legend, and height of a legend line."""


class Entry(NamedTuple):
    """A line of the legend: a color (None for the hatching of ignored pixels), a name, and a note in gray."""

    color: Color | None
    text: str
    note: str = ""


def require_target(out: Path, root: Path) -> None:
    """Reject an output path that cannot be used, before anything is read.

    Raises :class:`SegError` (`sheet-ending`, `sheet-target-taken`).
    """
    if out.is_dir():
        message = "the output path is a folder, not a file"
        raise fail("sheet-target-taken", message, f"choose a file, such as `{out / 'sheet.png'}`", path=str(out))
    if out.suffix.lower() not in ENDINGS:
        message = f"`{out.suffix or out.name}` is not a supported image format"
        help = f"name it `{out.with_suffix('.png')}`; supported are {', '.join(ENDINGS)}"
        raise fail("sheet-ending", message, help, path=str(out))
    if Path(os.path.realpath(out)).is_relative_to(os.path.realpath(root)):
        message = "the output file is inside the dataset and would be read as one of its images"
        raise fail("sheet-target-taken", message, "choose a file outside the dataset", path=str(out))


def write_picture(picture: Image.Image, out: Path) -> None:
    """Write a sheet to a file in one of the :data:`IMAGE_FORMATS`, completely or not at all.

    Raises :class:`SegError` (`sheet-not-written`).
    """
    content = BytesIO()
    picture.save(content, ENDINGS[out.suffix.lower()], quality=95, subsampling=0)
    draft = out.with_name(f".{out.name}.part")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        try:
            draft.write_bytes(content.getbuffer())
            draft.replace(out)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        reason = (error.strerror or "refused by the operating system").lower()
        help = "choose another file, or free some disk space"
        raise fail("sheet-not-written", f"cannot write the sheet: {reason}", help, path=str(out)) from error


def colors_of(labels: LabelSpace) -> list[Color]:
    """Return the dataset's own colors, and colors of the palette for classes without one."""
    own = [*(() if labels.declared else labels.colors), *[None] * len(labels.classes)]
    return [mine or chosen for mine, chosen in zip(own, class_colors(labels.classes), strict=False)]


def legend(classes: Sequence[str], colors: Sequence[Color], notes: Sequence[str] = ()) -> list[Entry]:
    """Return one legend entry per class, with its note if there is one."""
    names = [cut(readable(name, f"class {k}"), font(17), 260) for k, name in enumerate(classes)]
    return [Entry(*entry) for entry in zip(colors, names, notes or [""] * len(names), strict=True)]


def head(title: str, about: str, entries: Sequence[Entry]) -> Image.Image:
    """Draw title, subtitle and legend over the whole width."""
    face = font(17)
    widest = max(face.getlength(text) + face.getlength(note) for _, text, note in entries)
    columns = min(max(1, int(INSIDE // (widest + SWATCH + 64))), len(entries))
    lines = -(-len(entries) // columns)
    canvas = Image.new("RGB", (WIDTH, 132 + lines * ENTRY + GAP), PAPER)
    draw = ImageDraw.Draw(canvas)
    draw.text((MARGIN, 38), cut(title, font(34), INSIDE), fill=INK, font=font(34))
    draw.text((MARGIN, 84), cut(about, font(18), INSIDE, end=True), fill=GREY, font=font(18))
    step = INSIDE // max(columns, 4)
    for number, entry in enumerate(entries):
        _draw_entry(canvas, (MARGIN + number // lines * step, 132 + number % lines * ENTRY), entry)
    return canvas


def _draw_entry(canvas: Image.Image, at: tuple[int, int], entry: Entry) -> None:
    draw, face, (left, top) = ImageDraw.Draw(canvas), font(17), at
    if entry.color is None:
        canvas.paste(Image.fromarray(hatch(SWATCH, SWATCH)), at)
    draw.rectangle((left, top, left + SWATCH - 1, top + SWATCH - 1), fill=entry.color, outline=GREY)
    draw.text((left + SWATCH + 12, top + SWATCH / 2), entry.text, fill=INK, font=face, anchor="lm")
    after = left + SWATCH + 12 + face.getlength(entry.text) + 10
    draw.text((after, top + SWATCH / 2), entry.note, fill=GREY, font=face, anchor="lm")
