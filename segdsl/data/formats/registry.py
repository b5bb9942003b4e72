"""Reading of a dataset in any format: detection, the reader of the format, and the label space of the program."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from segdsl.data.findings import Findings, make_finding
from segdsl.data.formats.foreign import find_foreign_layout
from segdsl.data.formats.labels import LabelSpace
from segdsl.data.formats.layout import (
    DEFAULT_PATTERNS,
    Layout,
    Request,
    make_unknown_layout_error,
    require_dataset_folder,
)
from segdsl.data.formats.rasterize import VOID
from segdsl.data.formats.reader import READERS, load_readers
from segdsl.diagnostics import SegError, fail
from segdsl.ir.data_format import AUTO_FORMAT, DATA_FORMATS, DEFAULT_FORMAT, list_variants, suggest_format
from segdsl.ir.labels import Fault, describe_control_character, find_label_faults, has_control_character, suggest_class
from segdsl.ir.word import format_choice, list_choice_forms

load_readers()


def read_layout(root: Path, format: str, request: Request, findings: Findings) -> Layout:
    """Read file names and label space of the requested subsets. Append errors and warnings to ``findings``.

    Raise :class:`SegError` if ``root`` is not a dataset of this format, or if `auto` cannot decide on one.
    """
    root = Path(root)
    if format != AUTO_FORMAT and format not in DATA_FORMATS:
        raise _make_unknown_format_error(root, format)
    require_dataset_folder(root)
    if format == DEFAULT_FORMAT:
        _reject_other_formats(root)
    layout = READERS[detect_format(root) if format == AUTO_FORMAT else format].read(root, request, findings)
    if layout.labels is None:
        return layout
    # Class names go to terminals, reports and exported models, where control characters could do anything.
    broken = [name for name in layout.labels.classes if has_control_character(name)]
    for name in broken:
        slug = "class-control-character"
        findings.append(make_finding(slug, *describe_control_character(name), layout.class_file))
    return replace(layout, labels=None) if broken else _relabel_layout(layout, layout.labels, request, findings)


def _make_unknown_format_error(root: Path, format: str) -> SegError:
    near = suggest_format(format)
    names = list_variants(format) or list_choice_forms([*DATA_FORMATS, AUTO_FORMAT])
    listing = "choose one of " + ", ".join(f"`{name}`" for name in names)
    help = f"did you mean `{near}`?" if near else listing
    return fail("format-unknown", f"unknown data format `{format}`", help, path=str(root))


def _find_unused_settings(layout: Layout, labels: LabelSpace, request: Request) -> list[Fault]:
    """Return faults for settings that have no effect with this format."""
    found: list[Fault] = []
    record, slug, remove = layout.format, "setting-without-effect", "remove it"
    if request.values and ("values" not in record.settings or labels.value_to_id or labels.colors):
        message = f"masks in format `{record.name}` already define their classes"
        help = f"{remove}; it applies only to single-channel masks without colors"
        found.append(Fault("values", 0, slug, message, help))
    if request.background and "background" not in record.settings and request.background not in labels.classes:
        message = f"masks in format `{record.name}` label every pixel, so no background is left to define"
        help = f"{remove}, or name the class that scores of the foreground leave out"
        found.append(Fault("background", 0, slug, message, help))
    for name, pattern, default in zip(("images", "masks"), request.patterns, DEFAULT_PATTERNS, strict=True):
        if pattern != default and name not in record.settings:
            other = next(f for f in DATA_FORMATS.values() if name in f.settings)
            message = f"format `{record.name}` has fixed folder names"
            found.append(Fault(name, 0, slug, message, f"{remove}, or write `{other.setting_text}`"))
    return found


def _relabel_layout(layout: Layout, labels: LabelSpace, request: Request, findings: Findings) -> Layout:
    """Apply the class settings of the request; on errors, append findings and return a layout without labels."""
    wrong = find_label_faults(labels.classes, request.ignore, request.exclude, request.merges, request.values)
    wrong += _find_unused_settings(layout, labels, request)
    if layout.format.is_rasterized and request.background not in (None, VOID, *labels.classes):
        message, help = f"unknown class `{request.background}`", suggest_class(request.background, labels.classes)
        wrong.append(Fault("background", 0, "class-unknown", message, help))
    for fault in wrong:
        findings.append(make_finding(fault.slug, f"`data.{fault.setting}`: {fault.message}", fault.help, layout.root))
    trained = None if wrong else labels.relabel(request.ignore, request.exclude, request.merges, request.values)
    return replace(layout, labels=trained)


def _reject_other_formats(root: Path) -> None:
    """Raise :class:`SegError` if the folder is not in the default format but looks like another one."""
    if READERS[DEFAULT_FORMAT].detect(root):
        return
    signs = {name: evidence for name, evidence in _find_signs(root).items() if READERS[name].is_conclusive}
    if signs:
        name, evidence = next(iter(signs.items()))
        message = f"this is not a `{DEFAULT_FORMAT}` dataset; it looks like `{name}`: it has {evidence}"
        written = DATA_FORMATS[name].setting_text
        help = f"write `{written}` (`--set {written.replace(' ', '')}`; for `data` and `new`, `--format {name}`)"
        raise fail("data-layout-unknown", message, help, path=str(root))
    _reject_foreign_layout(root)


def _reject_foreign_layout(root: Path) -> None:
    """Raise :class:`SegError` if a folder without signs of any format has those of another tool."""
    if find_foreign_layout(root):
        raise make_unknown_layout_error(root)


def _find_signs(root: Path) -> dict[str, str]:
    """Return the signs of every format that a folder may be in; those of the preferred format come first."""
    return {name: evidence for name in DATA_FORMATS if (evidence := READERS[name].detect(root))}


def detect_format(root: Path) -> str:
    """Return the format that a folder looks like. Raise :class:`SegError` (`format-unclear`) if it is more than one."""
    signs = _find_signs(root)
    if len(signs) > 1:
        candidates = "; ".join(f"`{name}` ({evidence})" for name, evidence in signs.items())
        message = f"the folder looks like several formats: {candidates}"
        help = f"choose one: `data.format = {format_choice(next(iter(signs)))}` (for `data` and `new`, `--format`)"
        raise fail("format-unclear", message, help, path=str(root))
    if not signs:
        _reject_foreign_layout(root)
    # A folder without any sign is read in the default format, whose reader then reports what is missing.
    return next(iter(signs), DEFAULT_FORMAT)
