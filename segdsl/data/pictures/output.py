"""The file that shows a dataset: a page, or an image if its name ends like one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from segdsl.data.pictures.grid import draw_grid, encode_image
from segdsl.diagnostics import fail
from segdsl.storage.atomic import write_atomically

PAGE_SUFFIXES = (".html", ".htm")
IMAGE_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
"""Pillow's names of the image formats by file extension."""


def require_sheet_target(out: Path, root: Path) -> None:
    """Reject an output path that cannot be used, before anything is read.

    Raises :class:`SegError` (`sheet-ending`, `sheet-target-taken`).
    """
    if out.is_dir():
        message = "the output path is a folder, not a file"
        raise fail("sheet-target-taken", message, f"choose a file, such as `{out / 'sheet.html'}`", path=str(out))
    if not is_page(out) and out.suffix.lower() not in IMAGE_FORMATS:
        message = f"`{out.suffix or out.name}` is neither a page nor a supported image format"
        known = ", ".join([PAGE_SUFFIXES[0], *IMAGE_FORMATS])
        help = f"name it `{out.with_suffix('.html')}`; supported are {known}"
        raise fail("sheet-ending", message, help, path=str(out))
    if Path(os.path.realpath(out)).is_relative_to(os.path.realpath(root)):
        message = "the output file is inside the dataset"
        raise fail("sheet-target-taken", message, "choose a file outside the dataset", path=str(out))


def is_page(out: Path) -> bool:
    """Return whether the output file is an HTML page, not an image."""
    return out.suffix.lower() in PAGE_SUFFIXES


def write_grid(out: Path, rows: Sequence[Sequence[np.ndarray]], box: tuple[int, int]) -> None:
    """Write a grid of thumbnails as an image. Raises :class:`SegError` (`sheet-not-written`)."""
    write_sheet(out, encode_image(draw_grid(rows, box), IMAGE_FORMATS[out.suffix.lower()]))


def write_sheet(out: Path, content: bytes) -> None:
    """Write the file completely or not at all. Raises :class:`SegError` (`sheet-not-written`)."""
    try:
        write_atomically(out, content)
    except OSError as error:
        reason = (error.strerror or "refused by the operating system").lower()
        help = "choose another file, or free some disk space"
        raise fail("sheet-not-written", f"cannot write the sheet: {reason}", help, path=str(out)) from error
