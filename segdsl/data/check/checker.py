"""The dataset check: finds everything that may be wrong with a dataset before a run, file by file.

An error would stop a run or train it on wrong data; a warning may be intended.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from segdsl.data.check.dataset_findings import (
    ImageKinds,
    find_class_problems,
    make_single_class_finding,
    suggest_exclude,
)
from segdsl.data.check.facts import ImageFacts, MaskFacts, PairFacts, read_pair_facts
from segdsl.data.check.index import truncate_errors
from segdsl.data.check.pair_findings import describe_unknown_value, make_size_mismatch_error
from segdsl.data.decode.samples import check_channels
from segdsl.data.findings import Findings
from segdsl.data.formats.labels import VOID_LIKE_NAMES, LabelSpace
from segdsl.data.formats.layout import DEFAULT_REQUEST, Layout, Request, Subset
from segdsl.data.formats.registry import read_layout
from segdsl.data.stats.samplers import pack_presence
from segdsl.diagnostics import Diagnostic, SegError, Severity
from segdsl.ir.data_format import DEFAULT_FORMAT
from segdsl.storage.fact_cache import FactCache
from segdsl.text.listing import join_names, quote_names

ProgressCallback = Callable[[int, int], None]
"""Called with the number of pairs done, and the total."""


@dataclass(slots=True)
class CheckReport:
    """The result of a check.

    ``items`` counts pairs of files. By subset: ``pixels`` counts the pixels of each of the 256 mask values,
    ``class_image_pixels`` the labeled pixels of all images that contain the value, ``sizes`` the images of each
    (height, width), ``gray_counts`` the single-channel images; ``class_presence`` has a bit per image and class (see
    `stats.samplers`).
    """

    root: Path
    items: int = 0
    errors: Findings = field(default_factory=list)
    warnings: Findings = field(default_factory=list)
    classes: tuple[str, ...] = ()
    format: str = ""
    subsets: dict[str, int] = field(default_factory=dict)
    pixels: dict[str, np.ndarray] = field(default_factory=dict)
    class_image_pixels: dict[str, np.ndarray] = field(default_factory=dict)
    sizes: dict[str, Counter[tuple[int, int]]] = field(default_factory=dict)
    gray_counts: dict[str, int] = field(default_factory=dict)
    class_presence: dict[str, np.ndarray] = field(default_factory=dict)
    digest: str = ""
    """Hash of all contents, equal wherever the data is; empty if a file could not be read."""

    def raise_errors(self) -> None:
        """Raise :class:`SegError` with the first errors, if there are any."""
        if self.errors:
            raise SegError(truncate_errors(self.errors))

    def add_findings(self, findings: Findings) -> None:
        """Add findings to ``errors`` and ``warnings``."""
        for finding in findings:
            (self.errors if finding.severity == "error" else self.warnings).append(finding)


def check_data(
    root: str | Path,
    format: str = DEFAULT_FORMAT,
    request: Request = DEFAULT_REQUEST,
    progress: ProgressCallback | None = None,
) -> CheckReport:
    """Read every file of the requested subsets, and report all problems.

    Never raises on bad data: a missing dataset gives a report with that error.
    """
    # A report instead of an exception: the command prints it as it is, with the warnings that were found first.
    report, found = CheckReport(Path(root)), []
    try:
        layout = read_layout(Path(root), format, request, found)
    except SegError as error:
        report.add_findings([*found, *error.diagnostics])
        return report
    report.add_findings(found)
    report.format = layout.format.name
    report.subsets = {name: len(subset) for name, subset in layout.subsets.items()}
    report.items = sum(report.subsets.values())
    if layout.labels is None:
        return report
    report.classes = layout.labels.classes
    report.add_findings(_find_declaration_problems(layout, layout.labels, request))
    _Checker(layout, layout.labels, request, report, progress).check_pairs()
    return report


def _find_declaration_problems(layout: Layout, labels: LabelSpace, request: Request) -> Findings:
    found: Findings = []
    classes = request.classes
    file = layout.class_file
    if classes is not None and tuple(classes) != labels.mask_classes:
        declared, stored = quote_names(classes), quote_names(labels.mask_classes)
        message = f"the program declares the classes {declared}, but the dataset {stored}"
        help = "make them equal, in the same order; or remove `data.classes` to use those of the dataset"
        found.append(_make_finding("classes-differ", message, help, file))
    if request.void_id < len(labels.classes):
        name = labels.classes[request.void_id]
        message = (
            f"the ignore value {request.void_id} is also the id of class `{name}`, which is therefore never trained"
        )
        help = "use a value that is no class id, such as 255; if the masks use this value, set `data.values` as well"
        found.append(_make_finding("ignore-is-class", message, help, file, "warning"))
    for name in labels.classes:
        if name.strip().lower() in VOID_LIKE_NAMES:
            message = f"the class `{name}` is trained and scored like any other, but its name suggests ignored pixels"
            help = f"if its pixels should be ignored, {suggest_exclude([name], labels)}"
            found.append(_make_finding("class-looks-void", message, help, file, "warning"))
    return found


class _Checker:
    """One pass over all pairs of files, followed by the checks of the whole dataset."""

    def __init__(
        self,
        layout: Layout,
        labels: LabelSpace,
        request: Request,
        report: CheckReport,
        progress: ProgressCallback | None,
    ) -> None:
        self.layout, self.labels, self.ignore, self.reading = layout, labels, request.void_id, request.read_options
        self.report, self.progress = report, progress
        self.first_by_digest: dict[bytes, tuple[str, int]] = {}
        self.content_hash, self.done = hashlib.sha256(), 0
        self.is_complete = True
        self.kinds = ImageKinds()

    def check_pairs(self) -> None:
        with FactCache(self.layout.root) as cache:
            for name, subset in self.layout.subsets.items():
                self.report.pixels[name] = np.zeros(256, dtype=np.int64)
                self.report.class_presence[name] = np.zeros((len(subset), -(-len(self.labels.classes) // 8)), np.uint8)
                self.report.class_image_pixels[name] = np.zeros(256, dtype=np.int64)
                for facts in read_pair_facts(subset, self.labels, cache):
                    self.report.add_findings(self._check_pair(name, subset, facts))
                    self.done += 1
                    if self.progress:
                        self.progress(self.done, self.report.items)
        found = find_class_problems(self.layout, self.labels, self.ignore, self.report.pixels)
        # With soft borders between 0 and 255, the same mistake would be reported again for every mask.
        if any(d.slug == "mask-0-255" for d in found):
            self.report.errors = [d for d in self.report.errors if d.slug != "mask-value-out-of-range"]
        self.report.add_findings(found)
        if len(self.labels.classes) == 1 and not self.report.errors:
            pixels, name = sum(self.report.pixels.values()), self.labels.classes[0]
            self.report.errors.append(make_single_class_finding(self.layout.root, self.layout.format, name, pixels))
        self.report.add_findings(self.kinds.find_channel_problems(self.reading.channels))
        self.report.add_findings(self.kinds.find_depth_problems(self.reading.levels))
        self.report.digest = self.content_hash.hexdigest() if self.is_complete else ""

    def _check_pair(self, name: str, subset: Subset, facts: PairFacts) -> Findings:
        found = list(facts.diagnostics)
        image, mask = facts.image, facts.mask
        if image:
            found += self._check_image(name, subset, facts.position, image)
        if mask:
            found += self._check_mask(name, subset, facts.position, mask)
        if image and mask:
            # Ids and contents only, no paths or formats: the digest is the same for a copy of the data anywhere.
            item = f"{name}/{subset.get_item_id(facts.position)}{image.digest}{mask.digest}"
            self.content_hash.update(item.encode("utf-8", "surrogateescape"))
            if (image.height, image.width) != (mask.height, mask.width):
                # Scaling a mask with interpolation invents values: the size is the cause to report.
                values = [d for d in found if d.slug == "mask-value-out-of-range"]
                found = [d for d in found if d not in values] + self._find_size_mismatch(
                    subset, facts.position, image, mask
                )
        else:
            self.is_complete = False
        return found

    def _check_image(self, name: str, subset: Subset, position: int, image: ImageFacts) -> Findings:
        found: Findings = []
        path = subset.get_image_path(position)
        self.report.sizes.setdefault(name, Counter())[image.height, image.width] += 1
        self.report.gray_counts[name] = self.report.gray_counts.get(name, 0) + (image.channels - image.has_alpha == 1)
        self.kinds.add_image(image.channels, image.has_alpha, path)
        if self.reading.channels not in (None, image.channels):
            found += check_channels(image.channels, image.has_alpha, self.reading.channels, path)
        self.kinds.add_depth(image.bits, image.low, image.high, path)
        if image.orientation != 1:
            message = f"an EXIF tag rotates or mirrors the image (orientation {image.orientation})"
            help = "make sure that the mask was drawn on the rotated image, or save the image upright without the tag"
            found.append(_make_finding("image-turned", message, help, path, "warning"))
        # 16 bytes per image as the key: this dictionary holds every image of the dataset.
        key = bytes.fromhex(image.digest)
        first, first_position = self.first_by_digest.setdefault(key, (name, position))
        if (first, first_position) != (name, position):
            other = self.layout.subsets[first].get_image_path(first_position)
            leak = f", in another subset: scores of `{name}` may be too high" if first != name else ""
            message = f"duplicate of `{other.relative_to(self.layout.root)}`{leak}"
            found.append(_make_finding("image-twice", message, "keep one of them", path, "warning"))
        return found

    def _check_mask(self, name: str, subset: Subset, position: int, mask: MaskFacts) -> Findings:
        valid = sum(mask.counts.values()) - mask.counts.get(self.ignore, 0)
        for value, count in mask.counts.items():
            self.report.pixels[name][value] += count
            self.report.class_image_pixels[name][value] += valid
        self.report.class_presence[name][position] = pack_presence(mask.counts, len(self.labels.classes))
        wrong = [v for v in mask.counts if v >= len(self.labels.classes) and v != self.ignore]
        if wrong:
            message, help = describe_unknown_value(max(wrong), self.labels.classes, self.ignore)
            listing = join_names([f"{v} ({mask.counts[v]} px)" for v in wrong])
            return [
                _make_finding(
                    "mask-value-out-of-range", f"{message}; found {listing}", help, subset.get_mask_path(position)
                )
            ]
        if set(mask.counts) == {self.ignore}:
            message = f"every pixel of the mask is ignored ({self.ignore}), so the pair contributes nothing"
            help = "annotate the image, or remove image and mask"
            return [_make_finding("mask-all-void", message, help, subset.get_mask_path(position), "warning")]
        return []

    def _find_size_mismatch(self, subset: Subset, position: int, image: ImageFacts, mask: MaskFacts) -> Findings:
        if self.layout.format.is_rasterized:
            message = f"the image is {image.width} x {image.height} pixels (width x height), but its annotation "
            message += f"is for {mask.width} x {mask.height}"
            help = f"use the image that was annotated, or scale its annotations in `{subset.folder.name}`"
            return [_make_finding("mask-size-differs", message, help, subset.get_image_path(position))]
        error = make_size_mismatch_error(
            subset.get_mask_path(position), (mask.height, mask.width), (image.height, image.width)
        )
        if image.orientation > 4 and (mask.width, mask.height) == (image.height, image.width):
            message = "the mask matches the image only without the rotation in the image's EXIF tag"
            help = "save the image without the tag, or rotate the mask as well"
            return [_make_finding("mask-size-differs", message, help, subset.get_mask_path(position))]
        return list(error.diagnostics)


def _make_finding(slug: str, message: str, help: str, path: Path, severity: Severity = "error") -> Diagnostic:
    return Diagnostic(slug, message, help, path=str(path), severity=severity)
