"""What every drawn sheet has: its width, a title and a legend of the classes, and a file that it is put into."""

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
"""Of pictures that can be written, with their formats; a JPEG has the colours of the classes only nearly."""
WIDTH, MARGIN, GAP = 1600, 48, 28
"""Of a sheet, in pixels: its width, what is free around it, and what lies between two pairs."""
INSIDE = WIDTH - 2 * MARGIN
"""Pixels between the margins."""
SWATCH, ENTRY = 22, 34
"""Side of a colour in the legend, and height of a line of it."""


class Entry(NamedTuple):
    """A line of the legend: a colour (None for the hatching of void), a name, and what is said of it in grey."""

    color: Color | None
    text: str
    note: str = ""


def require_target(out: Path, root: Path) -> None:
    """Refuses a place where no picture can be put, before anything is read. Raises :class:`SegError` (`sheet-ending`,
    `sheet-target-taken`)."""
    if out.is_dir():
        message = "the sheet is to be drawn here, and this is a folder"
        raise fail("sheet-target-taken", message, f"name a file, such as `{out / 'sheet.png'}`", path=str(out))
    if out.suffix.lower() not in ENDINGS:
        message = f"`{out.suffix or out.name}` is no ending of a picture"
        help = f"name it `{out.with_suffix('.png')}`; {', '.join(ENDINGS)} are drawn"
        raise fail("sheet-ending", message, help, path=str(out))
    if Path(os.path.realpath(out)).is_relative_to(os.path.realpath(root)):
        message = "the file lies in the data set, and would be taken for one of its images"
        raise fail("sheet-target-taken", message, "name a file outside of the data set", path=str(out))


def write_picture(picture: Image.Image, out: Path) -> None:
    """Puts a sheet into a file of one of :data:`ENDINGS`, at once or not at all.

    Raises :class:`SegError` where the file cannot be written (`sheet-not-written`).
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
        message = f"the sheet cannot be written: {(error.strerror or 'the system refuses it').lower()}"
        raise fail("sheet-not-written", message, "name another file, where there is room", path=str(out)) from error


def colors_of(labels: LabelSpace) -> list[Color]:
    """The data set's own colours; chosen ones for classes that have none."""
    own = [*(() if labels.declared else labels.colors), *[None] * len(labels.classes)]
    return [mine or chosen for mine, chosen in zip(own, class_colors(labels.classes), strict=False)]


def legend(classes: Sequence[str], colors: Sequence[Color], notes: Sequence[str] = ()) -> list[Entry]:
    """An entry for each class, with its note where there are some."""
    names = [cut(readable(name, f"class {k}"), font(17), 260) for k, name in enumerate(classes)]
    return [Entry(*entry) for entry in zip(colors, names, notes or [""] * len(names), strict=True)]


def head(title: str, about: str, entries: Sequence[Entry]) -> Image.Image:
    """Title, a line about it and the legend, over the whole width."""
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
