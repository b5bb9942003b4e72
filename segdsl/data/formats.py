"""The formats by name: each reads the names of a data set, and tells whether a folder looks like it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from segdsl.data import benchmarks
from segdsl.data.coco import looks_like_coco, read_coco
from segdsl.data.datumaro import looks_like_datumaro, read_datumaro
from segdsl.data.drawn import VOID
from segdsl.data.folders import looks_like_folders, read_folders
from segdsl.data.labels import LabelSpace
from segdsl.data.layout import (
    COMMON,
    Findings,
    Layout,
    Request,
    finding,
    looks_like_common,
    read_common,
    require_folder,
)
from segdsl.data.voc import looks_like_voc, read_voc
from segdsl.diagnostics import fail
from segdsl.ir.labels import Fault, faults, offered

AUTO = "auto"


class Format(NamedTuple):
    """How a format is read, and what of it a folder shows."""

    read: Callable[[Path, Request, Findings], Layout]
    shows: Callable[[Path], str]


FORMATS = {
    COMMON: Format(read_common, looks_like_common),
    "voc_segmentation": Format(read_voc, looks_like_voc),
    "coco_instances": Format(read_coco, looks_like_coco),
    "datumaro": Format(read_datumaro, looks_like_datumaro),
    "cityscapes": Format(benchmarks.read_cityscapes, benchmarks.looks_like_cityscapes),
    "kitti_segmentation": Format(benchmarks.read_kitti, benchmarks.looks_like_kitti),
    "ade20k": Format(benchmarks.read_ade20k, benchmarks.looks_like_ade20k),
    "mapillary_vistas": Format(benchmarks.read_vistas, benchmarks.looks_like_vistas),
    "folders": Format(read_folders, looks_like_folders),
}


def read_layout(root: Path, format: str, asked: Request, found: Findings) -> Layout:
    """Reads names and label space of what is asked for. Appends what is at fault to ``found``.

    Raises :class:`SegError` where there is no data set of this format at all, or where `auto` cannot tell.
    """
    root = Path(root)
    if format != AUTO and format not in FORMATS:
        help = "known formats: " + ", ".join(f"`{f}`" for f in (*FORMATS, AUTO))
        raise fail("format-unknown", f"there is no data format `{format}`", help, path=str(root))
    require_folder(root)
    layout = FORMATS[detect(root) if format == AUTO else format].read(root, asked, found)
    return layout if layout.labels is None else _relabelled(layout, layout.labels, asked, found)


def _relabelled(layout: Layout, labels: LabelSpace, asked: Request, found: Findings) -> Layout:
    """The layout with the classes that are learnt; without a label space, and with findings, where there are none."""
    wrong = faults(labels.classes, asked.ignore, asked.exclude, asked.merges, asked.values)
    if labels.table and asked.values:
        message = f"`{layout.format}` says itself which mask value is which class"
        wrong.append(Fault("values", 0, "setting-without-effect", message, "leave `data.values` out"))
    if asked.background not in (None, VOID, *labels.classes):
        message, help = f"there is no class `{asked.background}`", offered(asked.background, labels.classes)
        wrong.append(Fault("background", 0, "class-unknown", message, help))
    for fault in wrong:
        found.append(finding(fault.slug, f"`data.{fault.setting}`: {fault.message}", fault.help, layout.root))
    learnt = None if wrong else labels.relabel(asked.ignore, asked.exclude, asked.merges, asked.values)
    return replace(layout, labels=learnt)


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
