"""What only the whole of a data set can tell: classes that never occur, and images of different kinds."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from segdsl.data.findings import Findings, finding
from segdsl.data.formats.labels import LabelSpace
from segdsl.data.formats.layout import Layout
from segdsl.ir.values import Range, number

Pixels = dict[str, np.ndarray]
"""The pixels of each of the 256 mask values, by subset."""


class Depth(NamedTuple):
    """Images of one depth: how many, their least and greatest value, and the first of them."""

    count: int
    low: float
    high: float
    first: Path

    def with_(self, other: Depth) -> Depth:
        """Both together."""
        return Depth(self.count + other.count, min(self.low, other.low), max(self.high, other.high), self.first)

    @property
    def many(self) -> str:
        """Their number, in words."""
        return f"{self.count} image{'s' if self.count > 1 else ''}"

    @property
    def way(self) -> str:
        """From the least to the greatest value."""
        return f"from {float(f'{self.low:.4g}'):g} to {float(f'{self.high:.5g}'):g}"

    @property
    def levels(self) -> Range:
        """The range of them all, rounded outwards where they are whole."""
        low, high = float(f"{self.low:.4g}"), float(f"{self.high:.5g}")
        return Range(low, high if high > low else low + 1)


class Kinds:
    """How many images there are of each kind, and the first of each: their channels, and whether the last is alpha."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[int, bool]] = Counter()
        self.first: dict[tuple[int, bool], Path] = {}
        self.depths: dict[int, Depth] = {}

    def add(self, channels: int, alpha: bool, path: Path) -> None:
        """Notes an image."""
        self.counts[channels, alpha] += 1
        self.first.setdefault((channels, alpha), path)

    def add_depth(self, bits: int, low: float, high: float, path: Path) -> None:
        """Notes the bits of an image, and its least and greatest value."""
        one = Depth(1, low, high, path)
        known = self.depths.get(bits)
        self.depths[bits] = one if known is None else known.with_(one)

    def depth_findings(self, levels: Range | None) -> Findings:
        """Images without a known black and white, those of 16 bits that are cut to 8, and levels that do not fit."""
        if levels is not None:
            return self._misfits(levels)
        found: Findings = []
        if odd := self.depths.get(0):
            message = f"the pixels of {odd.many} are numbers with no known black and white; they go {odd.way}"
            help = f"say which values become black and white: `data.levels = {odd.levels}`"
            found.append(finding("image-depth-unknown", message, help, odd.first))
        if deep := self.depths.get(16):
            message = f"{deep.many} of 16 bits: only the upper 8 are used; the values go {deep.way}"
            help = f"say which values are black and white if they come out dark or flat: `data.levels = {deep.levels}`"
            found.append(finding("image-depth", message, help, deep.first, "warning"))
        return found

    def _misfits(self, levels: Range) -> Findings:
        flat, found = self.depths.get(8), []
        if flat and levels.high > 255:
            message = f"{flat.many} of 8 bits, and `data.levels` goes up to {number(levels.high)}: they come out dark"
            help = "leave `data.levels` out, or keep images of one depth together"
            found.append(finding("image-depth", message, help, flat.first, "warning"))
        for deep in [depth for bits, depth in self.depths.items() if bits != 8]:
            if deep.low < levels.low or deep.high > levels.high:
                message = f"the values of {deep.many} go {deep.way}; `data.levels = {levels}` cuts what lies beyond"
                help = (
                    f"`data.levels = {deep.levels}` takes all; a narrower range is right where the rest does not matter"
                )
                found.append(finding("image-depth", message, help, deep.first, "warning"))
        return found

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
    if 0 in everywhere and (soft := _black_and_white(labels, ignore, pixels)):
        name, values = labels.classes[1], "[0..127, 128..255]" if soft == "soft" else "[0, 255]"
        message = f"masks are black and white: 255 is void here, and nearly no pixel is of the class `{name}`"
        help = f"if 255 is `{name}`, write `data.values = {values}`, or 1 instead of 255 into the masks"
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


def _black_and_white(labels: LabelSpace, ignore: int, pixels: Pixels) -> str:
    """Whether masks of two classes hold 0 and 255, read as void, and little else: "hard", "soft" where what is between
    them is there too, else empty."""
    if len(labels.classes) != 2 or ignore != 255 or labels.table:
        return ""
    counts = np.sum(list(pixels.values()), axis=0)
    between = int(counts[1:255].sum())
    if not counts[255] or counts[1] > counts[255] / 100 or between > counts[255]:
        return ""
    return "soft" if between else "hard"


def excluding(names: Sequence[str], labels: LabelSpace) -> str:
    """What to write to leave classes out, which may be merged of others."""
    if not set(names) <= set(labels.in_masks):
        return f"exclude what is merged into {listed(names)} in place of merging it"
    texts = ", ".join(json.dumps(name, ensure_ascii=False) for name in names)
    return f"add {texts} to `data.exclude`, a list of names"


def listed(names: Sequence[str]) -> str:
    """The first names, for a message."""
    return ", ".join(f"`{n}`" for n in list(names)[:6]) + (", …" if len(names) > 6 else "")
