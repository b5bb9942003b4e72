"""The formats by name: each reads the names of a data set, and tells whether a folder looks like it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from segdsl.data import benchmarks
from segdsl.data.coco import looks_like_coco, read_coco
from segdsl.data.folders import looks_like_folders, read_folders
from segdsl.data.layout import COMMON, Findings, Layout, Request, looks_like_common, read_common, require_folder
from segdsl.data.voc import looks_like_voc, read_voc
from segdsl.diagnostics import fail

AUTO = "auto"


class Format(NamedTuple):
    """How a format is read, and what of it a folder shows."""

    read: Callable[[Path, Request, Findings], Layout]
    shows: Callable[[Path], str]


FORMATS = {
    COMMON: Format(read_common, looks_like_common),
    "voc_segmentation": Format(read_voc, looks_like_voc),
    "coco_instances": Format(read_coco, looks_like_coco),
    "cityscapes": Format(benchmarks.read_cityscapes, benchmarks.looks_like_cityscapes),
    "kitti_segmentation": Format(benchmarks.read_kitti, benchmarks.looks_like_kitti),
    "ade20k": Format(benchmarks.read_ade20k, benchmarks.looks_like_ade20k),
    "mapillary_vistas": Format(benchmarks.read_vistas, benchmarks.looks_like_vistas),
    "folders": Format(read_folders, looks_like_folders),
}


def read_layout(
    root: Path,
    format: str,
    subsets: Sequence[str] | None,
    ignore: int,
    found: Findings,
    classes: Sequence[str] | None = None,
) -> Layout:
    """Reads names and label space of ``subsets`` (None: all that there are). Appends what is at fault to ``found``.

    ``classes`` are those that a program names, for the formats that name none. Raises :class:`SegError` where there is
    no data set of this format at all, or where `auto` cannot tell.
    """
    root = Path(root)
    if format != AUTO and format not in FORMATS:
        help = "known formats: " + ", ".join(f"`{f}`" for f in (*FORMATS, AUTO))
        raise fail("format-unknown", f"there is no data format `{format}`", help, path=str(root))
    require_folder(root)
    return FORMATS[detect(root) if format == AUTO else format].read(root, Request(subsets, ignore, classes), found)


def detect(root: Path) -> str:
    """The one format that a folder looks like; the first of all where it looks like none, which then says what it
    lacks. Raises :class:`SegError` (`format-unclear`) where it looks like several."""
    shown = {name: what for name, format in FORMATS.items() if (what := format.shows(root))}
    if len(shown) > 1:
        seen = "; ".join(f"`{name}` by {what}" for name, what in shown.items())
        message = f"the folder looks like several formats: {seen}"
        help = f"name the one that is meant: `data.format = {next(iter(shown))}`, or `--format`"
        raise fail("format-unclear", message, help, path=str(root))
    return next(iter(shown), COMMON)
