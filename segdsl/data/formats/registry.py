"""Registry of dataset formats: each detects and reads one layout of files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from segdsl.data.findings import Findings, make_finding
from segdsl.data.formats import benchmarks
from segdsl.data.formats.coco import detect_coco, read_coco
from segdsl.data.formats.datumaro import detect_datumaro, read_datumaro
from segdsl.data.formats.folders import detect_folders, read_folders
from segdsl.data.formats.labels import LabelSpace
from segdsl.data.formats.layout import (
    COMMON_FORMAT,
    IMAGES,
    MASKS,
    Layout,
    Request,
    detect_common,
    read_common,
    require_dataset_folder,
)
from segdsl.data.formats.rasterize import VOID
from segdsl.data.formats.voc import detect_voc, read_voc
from segdsl.diagnostics import fail
from segdsl.ir.labels import Fault, describe_control_character, find_label_faults, has_control_character, suggest_class

AUTO = "auto"


class Format(NamedTuple):
    """How to read a format, and how to detect it: the signs of it in a folder, or an empty string."""

    read: Callable[[Path, Request, Findings], Layout]
    detect: Callable[[Path], str]


# If several formats match a folder, messages suggest the first match: the default format comes first.
FORMATS = {
    COMMON_FORMAT: Format(read_common, detect_common),
    "voc_segmentation": Format(read_voc, detect_voc),
    "coco_instances": Format(read_coco, detect_coco),
    "datumaro": Format(read_datumaro, detect_datumaro),
    "cityscapes": Format(benchmarks.read_cityscapes, benchmarks.detect_cityscapes),
    "kitti_segmentation": Format(benchmarks.read_kitti, benchmarks.detect_kitti),
    "ade20k": Format(benchmarks.read_ade20k, benchmarks.detect_ade20k),
    "mapillary_vistas": Format(benchmarks.read_vistas, benchmarks.detect_vistas),
    "folders": Format(read_folders, detect_folders),
}


def read_layout(root: Path, format: str, request: Request, findings: Findings) -> Layout:
    """Read file names and label space of the requested subsets. Append errors and warnings to ``findings``.

    Raise :class:`SegError` if ``root`` is not a dataset of this format, or if `auto` cannot decide on one.
    """
    root = Path(root)
    if format != AUTO and format not in FORMATS:
        help = "choose one of " + ", ".join(f"`{f}`" for f in (*FORMATS, AUTO))
        raise fail("format-unknown", f"unknown data format `{format}`", help, path=str(root))
    require_dataset_folder(root)
    if format == COMMON_FORMAT:
        _reject_other_formats(root)
    layout = FORMATS[detect_format(root) if format == AUTO else format].read(root, request, findings)
    if layout.labels is None:
        return layout
    # Class names go to terminals, reports and exported models, where control characters could do anything.
    broken = [name for name in layout.labels.classes if has_control_character(name)]
    for name in broken:
        file = layout.meta_files[-1] if layout.meta_files else root
        findings.append(make_finding("class-control-character", *describe_control_character(name), file))
    return replace(layout, labels=None) if broken else _relabel_layout(layout, layout.labels, request, findings)


def _find_unused_settings(layout: Layout, labels: LabelSpace, request: Request) -> list[Fault]:
    """Return faults for settings that have no effect with this format."""
    found: list[Fault] = []
    slug, remove = "setting-without-effect", "remove it"
    if request.values and (labels.value_to_id or labels.colors or layout.is_rasterized):
        message = f"masks in format `{layout.format}` already define their classes"
        help = f"{remove}; it applies only to single-channel masks without colors"
        found.append(Fault("values", 0, slug, message, help))
    if request.background and not layout.is_rasterized:
        message = f"masks in format `{layout.format}` label every pixel, so no background is left to define"
        found.append(Fault("background", 0, slug, message, remove))
    for name, folder, default in zip(("images", "masks"), request.folder_names, (IMAGES, MASKS), strict=True):
        if folder != default and layout.format != "folders":
            message = f"format `{layout.format}` has fixed folder names"
            found.append(Fault(name, 0, slug, message, f"{remove}, or write `data.format = folders`"))
    return found


def _relabel_layout(layout: Layout, labels: LabelSpace, request: Request, findings: Findings) -> Layout:
    """Apply the class settings of the request; on errors, append findings and return a layout without labels."""
    wrong = find_label_faults(labels.classes, request.ignore, request.exclude, request.merges, request.values)
    wrong += _find_unused_settings(layout, labels, request)
    if layout.is_rasterized and request.background not in (None, VOID, *labels.classes):
        message, help = f"unknown class `{request.background}`", suggest_class(request.background, labels.classes)
        wrong.append(Fault("background", 0, "class-unknown", message, help))
    for fault in wrong:
        findings.append(make_finding(fault.slug, f"`data.{fault.setting}`: {fault.message}", fault.help, layout.root))
    trained = None if wrong else labels.relabel(request.ignore, request.exclude, request.merges, request.values)
    return replace(layout, labels=trained)


def _reject_other_formats(root: Path) -> None:
    """Raise :class:`SegError` if the folder is not in the default format but looks like another one."""
    if FORMATS[COMMON_FORMAT].detect(root):
        return
    signs = {
        n: evidence
        for n, form in FORMATS.items()
        if n not in (COMMON_FORMAT, "folders") and (evidence := form.detect(root))
    }
    # `folders` is left out: two folders of images prove little, and many broken datasets have them.
    if signs:
        name, evidence = next(iter(signs.items()))
        message = f"this is not a `{COMMON_FORMAT}` dataset; it looks like `{name}`: it has {evidence}"
        raise fail(
            "data-layout-unknown",
            message,
            f"write `data.format = {name}` (`--set data.format={name}`; for `data` and `new`, `--format {name}`)",
            path=str(root),
        )


def detect_format(root: Path) -> str:
    """Return the format that a folder looks like. Raise :class:`SegError` (`format-unclear`) if it is more than one."""
    signs = {name: evidence for name, format in FORMATS.items() if (evidence := format.detect(root))}
    if len(signs) > 1:
        candidates = "; ".join(f"`{name}` ({evidence})" for name, evidence in signs.items())
        message = f"the folder looks like several formats: {candidates}"
        help = f"choose one: `data.format = {next(iter(signs))}` (for `data` and `new`, `--format`)"
        raise fail("format-unclear", message, help, path=str(root))
    # A folder without any sign is read in the default format, whose reader then reports what is missing.
    return next(iter(signs), COMMON_FORMAT)
