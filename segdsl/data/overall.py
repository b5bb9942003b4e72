"""What only the whole of a data set can tell: classes that never occur, and images of different kinds."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from segdsl.data.findings import Findings, finding
from segdsl.data.labels import LabelSpace
from segdsl.data.layout import Layout
from segdsl.ir.values import Range, number

Pixels = dict[str, np.ndarray]
"""The pixels of each of the 256 mask values, by subset."""


class Kinds:
    """How many images there are of each kind, and the first of each: their channels, and whether the last is alpha."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[int, bool]] = Counter()
        self.first: dict[tuple[int, bool], Path] = {}
        self.depths: Counter[int] = Counter()
        self.first_of_depth: dict[int, Path] = {}

    def add(self, channels: int, alpha: bool, path: Path) -> None:
        """Notes an image."""
        self.counts[channels, alpha] += 1
        self.first.setdefault((channels, alpha), path)

    def add_depth(self, bits: int, path: Path) -> None:
        """Notes the bits of an image."""
        self.depths[bits] += 1
        self.first_of_depth.setdefault(bits, path)

    def depth_findings(self, levels: Range | None) -> Findings:
        """Images of 16 bits that are cut to 8, and such of 8 that are taken for deeper ones."""
        if levels is None and self.depths[16]:
            many = f"{self.depths[16]} images have" if self.depths[16] > 1 else "the image has"
            message = f"{many} 16 bits a pixel; only the upper 8 are used"
            help = "say which values are black and white if they come out dark or flat: `data.levels = 0..4095`"
            return [finding("image-depth", message, help, self.first_of_depth[16], "warning")]
        if levels is not None and levels.high > 255 and self.depths[8]:
            message = f"{self.depths[8]} images have 8 bits a pixel, and `data.levels` goes up to {number(levels.high)}"
            help = "they come out nearly black; leave `data.levels` out, or keep images of one depth together"
            return [finding("image-depth", message, help, self.first_of_depth[8], "warning")]
        return []

    def findings(self, wanted: int | None) -> Findings:
        """Grey images and such with alpha among others, where all become RGB; other numbers of channels that differ."""
        if len(self.counts) < 2 or wanted not in (None, 3):
            return []
        colors = {kind: kind[0] - kind[1] for kind in self.counts}
        usual = max(self.counts, key=self.counts.__getitem__)
        if not set(colors.values()) <= {1, 3} and len(set(colors.values())) > 1:
            odd = next(kind for kind in self.counts if colors[kind] != colors[usual])
            message = f"the image has {odd[0]} channels, {self.counts[usual]} others have {usual[0]}"
            return [finding("image-channels", message, "give every image the same channels", self.first[odd])]
        grey = [kind for kind in self.counts if colors[kind] == 1 and colors[usual] != 1]
        alpha = [kind for kind in self.counts if kind[1] and not usual[1]]
        named = [("grey", grey), ("with an alpha channel", alpha)]
        parts = [f"{sum(self.counts[k] for k in kinds)} {name}" for name, kinds in named if kinds]
        if not parts:
            return []
        message = f"{' and '.join(parts)} of {self.counts.total()} images, such as this one, among others that are not"
        help = "all are read as RGB, grey as three equal channels, alpha left out; see that nothing hangs on it"
        return [finding("image-modes-mixed", message, help, self.first[(grey or alpha)[0]], "warning")]


def class_findings(layout: Layout, labels: LabelSpace, ignore: int, pixels: Pixels) -> Findings:
    """Classes that one subset, or all of them, never show; subsets in which all is void."""
    scored = [k for k in range(len(labels.classes)) if k != ignore]
    present = {name: {k for k in scored if counts[k]} for name, counts in pixels.items()}
    everywhere = set().union(*present.values())
    if everywhere == {0} and _black_and_white(labels, ignore, pixels):
        name = labels.classes[1]
        message = f"all masks hold 0 and 255 only: 255 is void here, and class `{name}` never occurs"
        help = f"if 255 is `{name}`, write `data.values = [0, 255]`, or 1 instead of 255 into the masks"
        return [finding("mask-0-255", message, help, layout.root)]
    found: Findings = []
    never = [labels.classes[k] for k in scored if k not in everywhere]
    if never and everywhere:
        message = f"no mask of the data set shows the class {listed(never)}"
        help = "add images that show it"
        if len(labels.classes) - len(never) >= 2:
            help += f", or {excluding(never, labels)}: what is in no mask cannot be learnt"
        found.append(finding("class-absent", message, help, layout.root, "warning"))
    for name, classes in present.items():
        folder = layout.subsets[name].folder
        if not classes and pixels[name].any():
            message = f"no pixel of the subset `{name}` is of any class: all are void"
            help = "label some pixels, or see that `data.ignore` is the value of void"
            found.append(finding("subset-all-void", message, help, folder))
        elif missing := [labels.classes[k] for k in sorted(everywhere - classes) if classes]:
            message = f"no pixel of `{name}` is of class {listed(missing)}"
            help = "its score says nothing of them; move images between the subsets so that each shows every class"
            found.append(finding("class-absent", message, help, folder, "warning"))
    return found


def _black_and_white(labels: LabelSpace, ignore: int, pixels: Pixels) -> bool:
    """Whether all masks of two classes hold nothing but 0 and 255, read as void."""
    if len(labels.classes) != 2 or ignore != 255:
        return False
    return all(counts[255] and not counts[1:255].any() for counts in pixels.values())


def excluding(names: Sequence[str], labels: LabelSpace) -> str:
    """What to write to leave classes out, which may be merged of others."""
    if not set(names) <= set(labels.in_masks):
        return f"exclude what is merged into {listed(names)} in place of merging it"
    texts = ", ".join(json.dumps(name, ensure_ascii=False) for name in names)
    return f"add {texts} to `data.exclude`, a list of names"


def listed(names: Sequence[str]) -> str:
    """The first names, for a message."""
    return ", ".join(f"`{n}`" for n in list(names)[:6]) + (", …" if len(names) > 6 else "")
