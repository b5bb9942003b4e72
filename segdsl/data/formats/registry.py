"""The formats by name: each reads the names of a data set, and tells whether a folder looks like it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from segdsl.data.findings import Findings, finding
from segdsl.data.formats import benchmarks
from segdsl.data.formats.coco import looks_like_coco, read_coco
from segdsl.data.formats.datumaro import looks_like_datumaro, read_datumaro
from segdsl.data.formats.folders import looks_like_folders, read_folders
from segdsl.data.formats.labels import LabelSpace
from segdsl.data.formats.layout import (
    COMMON,
    IMAGES,
    MASKS,
    Layout,
    Request,
    looks_like_common,
    read_common,
    require_folder,
)
from segdsl.data.formats.rasterize import VOID
from segdsl.data.formats.voc import looks_like_voc, read_voc
from segdsl.diagnostics import fail
from segdsl.ir.labels import Fault, control_character, faults, has_control_character, offered

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
    if format == COMMON:
        _require_no_other(root)
    layout = FORMATS[detect(root) if format == AUTO else format].read(root, asked, found)
    if layout.labels is None:
        return layout
    broken = [name for name in layout.labels.classes if has_control_character(name)]
    for name in broken:
        file = layout.meta[-1] if layout.meta else root
        found.append(finding("class-control-character", *control_character(name), file))
    return replace(layout, labels=None) if broken else _relabelled(layout, layout.labels, asked, found)


def _without_effect(layout: Layout, labels: LabelSpace, asked: Request) -> list[Fault]:
    """Settings that mean nothing for this format."""
    found: list[Fault] = []
    slug, out = "setting-without-effect", "leave it out"
    if asked.values and (labels.table or labels.colors or layout.drawn):
        message = f"the masks of this data set (`{layout.format}`) say themselves what is which class"
        found.append(Fault("values", 0, slug, message, f"{out}; it is for masks of one channel and no colours"))
    if asked.background and not layout.drawn:
        message = f"the masks of `{layout.format}` are not drawn, and leave nothing uncovered"
        found.append(Fault("background", 0, slug, message, out))
    for name, said, usual in zip(("images", "masks"), asked.parts, (IMAGES, MASKS), strict=True):
        if said != usual and layout.format != "folders":
            message = f"`{layout.format}` has its own names of folders"
            found.append(Fault(name, 0, slug, message, f"{out}, or write `data.format = folders`"))
    return found


def _relabelled(layout: Layout, labels: LabelSpace, asked: Request, found: Findings) -> Layout:
    """The layout with the classes that are learnt; without a label space, and with findings, where there are none."""
    wrong = faults(labels.classes, asked.ignore, asked.exclude, asked.merges, asked.values)
    wrong += _without_effect(layout, labels, asked)
    if layout.drawn and asked.background not in (None, VOID, *labels.classes):
        message, help = f"there is no class `{asked.background}`", offered(asked.background, labels.classes)
        wrong.append(Fault("background", 0, "class-unknown", message, help))
    for fault in wrong:
        found.append(finding(fault.slug, f"`data.{fault.setting}`: {fault.message}", fault.help, layout.root))
    learnt = None if wrong else labels.relabel(asked.ignore, asked.exclude, asked.merges, asked.values)
    return replace(layout, labels=learnt)


def _require_no_other(root: Path) -> None:
    """Raises :class:`SegError` where the folder is not what a program takes it for by default, and another is seen."""
    if FORMATS[COMMON].shows(root):
        return
    seen = {n: what for n, form in FORMATS.items() if n not in (COMMON, "folders") and (what := form.shows(root))}
    if seen:
        name, what = next(iter(seen.items()))
        message = f"this is no `{COMMON}`; it looks like `{name}` by {what}"
        raise fail(
            "data-layout-unknown",
            message,
            f"write `data.format = {name}` (`--set data.format={name}`; of `data` and `new`, `--format {name}`)",
            path=str(root),
        )


def detect(root: Path) -> str:
    """The one format that a folder looks like; the first of all where it looks like none, which then says what it
    lacks. Raises :class:`SegError` (`format-unclear`) where it looks like several."""
    shown = {name: what for name, format in FORMATS.items() if (what := format.shows(root))}
    if len(shown) > 1:
        seen = "; ".join(f"`{name}` by {what}" for name, what in shown.items())
        message = f"the folder looks like several formats: {seen}"
        help = f"name the one that is meant: `data.format = {next(iter(shown))}` (of `data` and `new`, `--format`)"
        raise fail("format-unclear", message, help, path=str(root))
    return next(iter(shown), COMMON)
