"""A contact sheet of a data set: some images, beside each its mask over it, and a legend of the classes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw

from segdsl.data.colors import Color, class_colors
from segdsl.data.converted import read_ids
from segdsl.data.images import read_image, visible
from segdsl.data.selection import Pick, picked
from segdsl.data.stats import Survey
from segdsl.data.tiles import drawn, fitted, hatch, shrunk, small_mask
from segdsl.data.typeset import GREY, INK, PANEL, PAPER, cut, font, readable
from segdsl.diagnostics import fail

ENDINGS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
"""Of pictures that can be written, with their formats; a JPEG has the colours of the classes only nearly."""
WIDTH, MARGIN, GAP = 1600, 48, 28
"""Of the sheet, in pixels: its width, what is free around it, and what lies between two pairs."""
SEAM = 4
"""Pixels between an image and its mask."""
PANEL_AREA = 52_000
"""About so many pixels an image gets; its shape is that of the images."""
LEAST_IMAGES = 12
CAPTION = 48
"""Pixels below an image, for two lines of text."""
SWATCH, ENTRY = 22, 34
"""Side of a colour in the legend, and height of a line of it."""


class Geometry(NamedTuple):
    """How pairs are laid out: the size of a panel, and how many pairs stand in a row."""

    width: int
    height: int
    columns: int

    @property
    def pair(self) -> int:
        """The width of an image and its mask."""
        return 2 * self.width + SEAM


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


def write_sheet(found: Survey, out: Path) -> None:
    """Draws the sheet of a survey without errors into a file, at once or not at all.

    Raises :class:`SegError` where the file cannot be written (`sheet-not-written`), and as :func:`require_target`.
    """
    require_target(out, found.report.root)
    content = BytesIO()
    sheet(found).save(content, ENDINGS[out.suffix.lower()], quality=95, subsampling=0)
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


def sheet(found: Survey) -> Image.Image:
    """The sheet of a survey without errors, RGB, :data:`WIDTH` wide. Raises SegError for a file that is unreadable."""
    geometry = geometry_of(found)
    picks = picked(found, -(-LEAST_IMAGES // geometry.columns) * geometry.columns)
    colors = colors_of(found)
    head = _head(found, colors)
    row = geometry.height + CAPTION + GAP
    rows = -(-len(picks) // geometry.columns)
    canvas = Image.new("RGB", (WIDTH, head.height + rows * row - GAP + MARGIN), PAPER)
    canvas.paste(head, (0, 0))
    for number, pick in enumerate(picks):
        left = MARGIN + number % geometry.columns * (geometry.pair + GAP)
        top = head.height + number // geometry.columns * row
        _draw_pair(canvas, (left, top), found, pick, geometry, colors)
    return canvas


def geometry_of(found: Survey) -> Geometry:
    """Panels of the middle shape of all images, so many in a row that each has about :data:`PANEL_AREA` pixels."""
    shapes = sorted(stats.aspects().median for stats in found.subsets.values())
    aspect = min(max(shapes[len(shapes) // 2], 0.4), 3.0)
    inside = WIDTH - 2 * MARGIN
    columns = max(1, round((inside + GAP) / (2 * (PANEL_AREA * aspect) ** 0.5 + SEAM + GAP)))
    width = ((inside + GAP) // columns - GAP - SEAM) // 2
    return Geometry(width, round(width / aspect), columns)


def colors_of(found: Survey) -> list[Color]:
    """The data set's own colours; chosen ones for classes that have none."""
    assert found.layout is not None and found.layout.labels is not None
    labels = found.layout.labels
    own = [*(() if labels.declared else labels.colors), *[None] * len(found.classes)]
    return [mine or chosen for mine, chosen in zip(own, class_colors(found.classes), strict=False)]


def _head(found: Survey, colors: Sequence[Color]) -> Image.Image:
    """Title, numbers and legend, over the whole width."""
    entries = _entries(found, colors)
    face = font(17)
    inside = WIDTH - 2 * MARGIN
    widest = max(face.getlength(text) + face.getlength(share) for _, text, share in entries)
    columns = min(max(1, int(inside // (widest + SWATCH + 64))), len(entries))
    lines = -(-len(entries) // columns)
    canvas = Image.new("RGB", (WIDTH, 132 + lines * ENTRY + GAP), PAPER)
    draw = ImageDraw.Draw(canvas)
    draw.text((MARGIN, 38), cut(_title(found), font(34), inside), fill=INK, font=font(34))
    draw.text((MARGIN, 84), cut(_numbers(found), font(18), inside, end=True), fill=GREY, font=font(18))
    step = inside // max(columns, 4)
    for number, (color, text, share) in enumerate(entries):
        left, top = MARGIN + number // lines * step, 132 + number % lines * ENTRY
        swatch = hatch(SWATCH, SWATCH) if color is None else None
        if swatch is not None:
            canvas.paste(Image.fromarray(swatch), (left, top))
        draw.rectangle((left, top, left + SWATCH - 1, top + SWATCH - 1), fill=color, outline=GREY)
        draw.text((left + SWATCH + 12, top + SWATCH / 2), text, fill=INK, font=face, anchor="lm")
        after = left + SWATCH + 12 + face.getlength(text) + 10
        draw.text((after, top + SWATCH / 2), share, fill=GREY, font=face, anchor="lm")
    return canvas


def _entries(found: Survey, colors: Sequence[Color]) -> list[tuple[Color | None, str, str]]:
    """Colour, name and share of pixels of each class, void last and without a colour."""
    subsets = found.subsets.values()
    whole = sum(stats.pixels for stats in subsets)
    shares = {k: sum(stats.of(k).pixels for stats in subsets) / whole for k in [*range(len(colors)), found.ignore]}
    face = font(17)
    entries: list[tuple[Color | None, str, str]] = [
        (color, cut(readable(name, f"class {k}"), face, 260), _percent(shares[k]))
        for k, (name, color) in enumerate(zip(found.classes, colors, strict=True))
    ]
    return [*entries, (None, "void", _percent(shares[found.ignore]))] if shares[found.ignore] else entries


def _percent(share: float) -> str:
    return f"{share:.1%}" if share >= 0.001 or not share else "<0.1%"


def _title(found: Survey) -> str:
    return readable(found.report.root.resolve().name, "data set")


def _numbers(found: Survey) -> str:
    counts = ", ".join(f"{stats.images:,} {readable(name, '?')}" for name, stats in found.subsets.items())
    many = len(found.classes)
    return f"{counts} images  ·  {many} class{'es' if many != 1 else ''}  ·  {found.report.format}"


def _draw_pair(
    canvas: Image.Image, at: tuple[int, int], found: Survey, pick: Pick, geometry: Geometry, colors: Sequence[Color]
) -> None:
    """An image, its mask over it, and two lines of text below."""
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
    """Subset, size, and the classes that the image was taken for."""
    shows = ", ".join(f"{readable(found.classes[k], f'class {k}')} {_percent(share)}" for k, share in pick.shows)
    return "  ·  ".join(filter(None, [readable(pick.subset, "?"), f"{size[0]}x{size[1]}", shows]))
