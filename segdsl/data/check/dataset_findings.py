"""Findings about the dataset as a whole: classes without pixels, and images of different kinds."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from segdsl.data.findings import Findings, make_finding
from segdsl.data.formats.labels import LabelSpace
from segdsl.data.formats.layout import Layout
from segdsl.diagnostics import Diagnostic, Setting
from segdsl.ir.data_format import DataFormat
from segdsl.ir.values import Range, format_number
from segdsl.text.listing import format_string_list, join_names, quote_names
from segdsl.text.plural import format_count, pick_noun

FOLDERS = "folders"
"""The format in which the program names the classes."""
PixelCounts = dict[str, np.ndarray]
"""Number of pixels of each of the 256 mask values, by subset."""


class DepthGroup(NamedTuple):
    """Images of one bit depth: their number, their least and greatest value, and the first of them."""

    count: int
    low: float
    high: float
    first_path: Path

    def merge(self, other: DepthGroup) -> DepthGroup:
        """Combine two groups of the same depth."""
        return DepthGroup(
            self.count + other.count, min(self.low, other.low), max(self.high, other.high), self.first_path
        )

    @property
    def count_text(self) -> str:
        """The number of images with its noun, such as `3 images`."""
        return format_count(self.count, "image")

    @property
    def range_text(self) -> str:
        """The observed values, such as `from 0 to 4095`."""
        return f"from {float(f'{self.low:.4g}'):g} to {float(f'{self.high:.5g}'):g}"

    @property
    def level_range(self) -> Range:
        """The observed values as a range, for `data.levels`; never empty."""
        # Few digits, since the range is meant to be copied into a program; five for the upper end keep 65535 exact.
        low, high = float(f"{self.low:.4g}"), float(f"{self.high:.5g}")
        return Range(low, high if high > low else low + 1)


class ImageKinds:
    """Counts of images by channels and alpha, and by bit depth, with the first image of each kind."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[int, bool]] = Counter()
        self.first_paths: dict[tuple[int, bool], Path] = {}
        self.depths: dict[int, DepthGroup] = {}

    def add_image(self, channels: int, alpha: bool, path: Path) -> None:
        """Count an image."""
        self.counts[channels, alpha] += 1
        self.first_paths.setdefault((channels, alpha), path)

    def add_depth(self, bits: int, low: float, high: float, path: Path) -> None:
        """Count an image by bit depth, with its least and greatest value."""
        one = DepthGroup(1, low, high, path)
        group = self.depths.get(bits)
        self.depths[bits] = one if group is None else group.merge(one)

    def find_depth_problems(self, levels: Range | None) -> Findings:
        """Report images without a value range, 16-bit images reduced to 8 bits, and unsuitable `data.levels`."""
        if levels is not None:
            return self._find_level_misfits(levels)
        found: Findings = []
        if odd := self.depths.get(0):
            verb = "have" if odd.count > 1 else "has"
            message = f"{odd.count_text} {verb} no defined value range (observed {odd.range_text})"
            help = f"set the values that map to black and white: `data.levels = {odd.level_range}`"
            settings = (Setting("data.levels", str(odd.level_range)),)
            found.append(make_finding("image-depth-unknown", message, help, odd.first_path, settings=settings))
        if deep := self.depths.get(16):
            message = f"only the upper 8 bits of {deep.count_text} with 16 bits are used (values {deep.range_text})"
            help = f"if they look dark or flat, set the values of black and white: `data.levels = {deep.level_range}`"
            settings = (Setting("data.levels", str(deep.level_range)),)
            found.append(make_finding("image-depth", message, help, deep.first_path, "warning", settings))
        return found

    def _find_level_misfits(self, levels: Range) -> Findings:
        flat, found = self.depths.get(8), []
        if flat and levels.high > 255:
            verb = "have" if flat.count > 1 else "has"
            highest = format_number(levels.high)
            message = f"{flat.count_text} {verb} 8 bits and will be dark: `data.levels` goes up to {highest}"
            help = "remove `data.levels`, or use separate datasets for images of different depth"
            found.append(make_finding("image-depth", message, help, flat.first_path, "warning"))
        for deep in [depth for bits, depth in self.depths.items() if bits != 8]:
            if deep.low < levels.low or deep.high > levels.high:
                verb = "have" if deep.count > 1 else "has"
                values = f"{deep.count_text} {verb} values {deep.range_text}"
                message = f"{values}; those outside `data.levels = {levels}` are clipped"
                help = f"use `data.levels = {deep.level_range}` to keep all values, unless the rest does not matter"
                found.append(make_finding("image-depth", message, help, deep.first_path, "warning"))
        return found

    def find_channel_problems(self, model_channels: int | None) -> Findings:
        """Report mixed images: grayscale or alpha among others if all become RGB, and differing channel counts."""
        if len(self.counts) < 2 or model_channels not in (None, 3):
            return []
        # The most frequent kind counts as intended, and the others are reported.
        colors = {kind: kind[0] - kind[1] for kind in self.counts}
        usual = max(self.counts, key=self.counts.__getitem__)
        if not set(colors.values()) <= {1, 3} and len(set(colors.values())) > 1:
            odd = next(kind for kind in self.counts if colors[kind] != colors[usual])
            message = f"the image has {odd[0]} channels, but {self.counts[usual]} others have {usual[0]}"
            return [
                make_finding(
                    "image-channels", message, "give all images the same number of channels", self.first_paths[odd]
                )
            ]
        gray = [kind for kind in self.counts if colors[kind] == 1 and colors[usual] != 1]
        alpha = [kind for kind in self.counts if kind[1] and not usual[1]]
        groups = [("grayscale", gray), ("with an alpha channel", alpha)]
        parts = [f"{sum(self.counts[k] for k in kinds)} {name}" for name, kinds in groups if kinds]
        if not parts:
            return []
        message = f"mixed image types: {' and '.join(parts)} of {self.counts.total()} images, such as this one"
        help = "all are read as RGB (gray repeated, alpha dropped); check that this is acceptable"
        return [make_finding("image-modes-mixed", message, help, self.first_paths[(gray or alpha)[0]], "warning")]


def find_class_problems(layout: Layout, labels: LabelSpace, ignore: int, pixels: PixelCounts) -> Findings:
    """Report classes without pixels in one or all subsets, and subsets in which every pixel is ignored."""
    scored = [k for k in range(len(labels.classes)) if k != ignore]
    present = {name: {k for k in scored if counts[k]} for name, counts in pixels.items()}
    everywhere = set().union(*present.values())
    # Masks of formats that do not take the remedy cannot be what is wrong.
    is_suspect = "values" in layout.format.settings and 0 in everywhere
    if soft := _detect_black_and_white(labels, ignore, pixels) if is_suspect else "":
        name, values = labels.classes[1], "[0..127, 128..255]" if soft == "soft" else "[0, 255]"
        message = f"masks hold 0 and 255, but 255 means ignored, so almost no pixel has the class `{name}`"
        help = f"if 255 means `{name}`, set `data.values = {values}`, or replace 255 with 1 in the masks"
        return [make_finding("mask-0-255", message, help, layout.root, settings=(Setting("data.values", values),))]
    found = _find_absent_classes(layout, labels, scored, everywhere)
    for name, classes in present.items():
        folder = layout.subsets[name].folder
        missing = [labels.classes[k] for k in sorted(everywhere - classes)]
        if not classes and pixels[name].any():
            message = f"every pixel of the subset `{name}` is ignored"
            help = "label some pixels, or check that `data.ignore` is the value of ignored pixels"
            found.append(make_finding("subset-all-void", message, help, folder))
        elif classes and missing:
            noun = pick_noun(len(missing), "class", "classes")
            message = f"no mask of the subset `{name}` contains the {noun} {quote_names(missing)}"
            help = (
                "move images between the subsets so that each contains every class; its scores do not cover the others"
            )
            found.append(make_finding("class-absent", message, help, folder, "warning"))
    return found


def make_single_class_finding(root: Path, format: DataFormat, name: str, pixels: np.ndarray | int) -> Diagnostic:
    """Return the error for a dataset with one class, ``name``; ``pixels`` counts each value in (some of) its masks."""
    message = f"the dataset has only the class `{name}`; a segmentation needs two or more"
    if format.is_rasterized:
        help = "name the class of all other pixels: `data.background`, or `--background NAME` for `data` and `new`"
        return make_finding("too-few-classes", message, help, root)
    values = np.flatnonzero(pixels).tolist()
    if values not in ([0, 255], [0, 1]) or "values" not in format.settings:
        return make_finding("too-few-classes", message, "add a class for the pixels around it", root)
    classes = format_string_list(["background", name])
    settings = [Setting("data.format", FOLDERS), Setting("data.classes", classes), Setting("data.values", str(values))]
    message = f"{message}, and its masks hold the values 0 and {values[1]}"
    help = f"if 0 is background and {values[1]} is `{name}`, set " + join_names([f"`{entry}`" for entry in settings])
    return make_finding("too-few-classes", message, help, root, settings=tuple(settings))


def _find_absent_classes(layout: Layout, labels: LabelSpace, scored: Sequence[int], present: set[int]) -> Findings:
    """Report the scored classes that no mask of the dataset contains, unless that is all of them."""
    never = [labels.classes[k] for k in scored if k not in present]
    if not never or not present:
        return []
    message = f"no mask of the dataset contains the {pick_noun(len(never), 'class', 'classes')} {quote_names(never)}"
    help = f"add images with {'them' if len(never) > 1 else 'it'}"
    # Without two classes left there would be nothing to segment, so removing this one is no remedy.
    if len(labels.classes) - len(never) >= 2:
        help += f", or {suggest_exclude(never, labels)}: a class without pixels cannot be learned"
    return [make_finding("class-absent", message, help, layout.root, "warning")]


def _detect_black_and_white(labels: LabelSpace, ignore: int, pixels: PixelCounts) -> str:
    """Detect masks of two classes that hold 0 and 255 and little else.

    Return "hard", "soft" if values between them occur as well (antialiased borders), or an empty string.
    """
    if len(labels.classes) != 2 or ignore != 255 or labels.value_to_id:
        return ""
    counts = np.sum(list(pixels.values()), axis=0)
    between = int(counts[1:255].sum())
    # Class 1 may have stray pixels, but fewer than 1 % of those at 255; soft borders never outnumber the object itself.
    if not counts[255] or counts[1] > counts[255] / 100 or between > counts[255]:
        return ""
    return "soft" if between else "hard"


def suggest_exclude(names: Sequence[str], labels: LabelSpace) -> str:
    """Return how to exclude classes, some of which may be the result of merging."""
    if not set(names) <= set(labels.mask_classes):
        return f"exclude the classes merged into {quote_names(names)} instead of merging them"
    texts = ", ".join(json.dumps(name, ensure_ascii=False) for name in names)
    return f"add {texts} to `data.exclude`, a list of names"
