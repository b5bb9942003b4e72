"""What a sound data set holds, subset by subset: sizes and channels of its images, and how often each class occurs.

All is counted in one pass over the facts of the pairs; of each class only a few images are remembered by position, so
that a million images cost no more memory than a hundred.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from segdsl.data.check.checker import CheckReport, Progress, check_data
from segdsl.data.check.facts import PairFacts, pair_facts
from segdsl.data.formats.labels import LabelSpace
from segdsl.data.formats.layout import ALL, Layout, Request, Subset
from segdsl.data.formats.registry import read_layout
from segdsl.diagnostics import SegError
from segdsl.storage.fact_cache import FactCache

REMEMBERED = 8
"""Images of each class that are remembered in a subset: those of which it covers most."""
RARE = 0.05
"""A class that fewer than this share of the images show is rare."""
LISTED, NEARLY_ALL = 5, 0.9
"""So many of the classes seen least are told of where fewer are rare, but for those that nearly all images show."""


class Spread(NamedTuple):
    """The least, the middle and the greatest of some numbers."""

    least: float
    median: float
    greatest: float


class Example(NamedTuple):
    """An image that shows a class: the ``share`` of it that the class covers, its ``position``, all its ``counts``."""

    share: float
    position: int
    counts: Mapping[int, int]


@dataclass(slots=True)
class ClassStats:
    """How often a mask value occurs: its pixels, the images that show it, and the labelled pixels of those images."""

    pixels: int = 0
    images: int = 0
    within: int = 0
    _best: list[tuple[float, int, Mapping[int, int]]] = field(default_factory=list)

    def add(self, position: int, counts: Mapping[int, int], value: int, ignore: int) -> None:
        """Counts one image of which ``counts`` are the pixels by value."""
        whole = sum(counts.values())
        self.pixels += counts[value]
        self.images += 1
        self.within += whole - (counts.get(ignore, 0) if value != ignore else 0)
        # The position, negated, is unique: of two images alike the earlier one stays, and counts are never compared.
        entry = (counts[value] / whole, -position, counts)
        if len(self._best) < REMEMBERED:
            heapq.heappush(self._best, entry)
        else:
            heapq.heappushpop(self._best, entry)

    def examples(self) -> list[Example]:
        """The images that are remembered, the one that shows most of it first."""
        best = sorted(self._best, key=lambda e: e[:2], reverse=True)
        return [Example(share, -position, counts) for share, position, counts in best]


@dataclass(slots=True)
class SubsetStats:
    """The counts of one subset. ``sizes`` are those of the upright images, (height, width); ``modes`` are Pillow's;
    ``values`` has an entry for every mask value that occurs."""

    subset: Subset
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    modes: Counter[str] = field(default_factory=Counter)
    values: dict[int, ClassStats] = field(default_factory=dict)

    @property
    def images(self) -> int:
        """The number of images."""
        return len(self.subset)

    @property
    def pixels(self) -> int:
        """The number of all pixels, void among them."""
        return sum(height * width * n for (height, width), n in self.sizes.items())

    def of(self, value: int) -> ClassStats:
        """The counts of a mask value, zero where it does not occur."""
        return self.values.get(value) or ClassStats()

    def add(self, facts: PairFacts, ignore: int) -> None:
        """Counts one pair whose files could both be read."""
        image, mask = facts.image, facts.mask
        assert image is not None and mask is not None
        self.sizes[image.height, image.width] += 1
        self.modes[image.mode] += 1
        for value in mask.counts:
            self.values.setdefault(value, ClassStats()).add(facts.position, mask.counts, value, ignore)

    def heights(self) -> Spread:
        """Of the heights of the images, in pixels."""
        return spread((h, n) for (h, _), n in self.sizes.items())

    def widths(self) -> Spread:
        """Of the widths of the images, in pixels."""
        return spread((w, n) for (_, w), n in self.sizes.items())

    def aspects(self) -> Spread:
        """Of width over height."""
        return spread((w / h, n) for (h, w), n in self.sizes.items())

    def seen_least(self, classes: int) -> list[int]:
        """The ids of the classes that are rare (:data:`RARE`), and of a few more that follow; the rarest first.

        Classes that never occur are none of them.
        """
        here = sorted((self.of(k).images, self.of(k).pixels, k) for k in range(classes) if self.of(k).images)
        shares = [(images / self.images, k) for images, _, k in here]
        return [k for n, (share, k) in enumerate(shares) if share < RARE or (share < NEARLY_ALL and n < LISTED)]


@dataclass(frozen=True, slots=True)
class Survey:
    """What the check found of what was ``asked`` for, and, where it found no error, the layout and the counts of each
    subset."""

    report: CheckReport
    asked: Request = ALL
    layout: Layout | None = None
    subsets: Mapping[str, SubsetStats] = field(default_factory=dict)

    @property
    def ignore(self) -> int:
        """The value of void."""
        return self.asked.void

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes by id."""
        return self.report.classes


def survey(root: Path, format: str, asked: Request = ALL, progress: Progress | None = None) -> Survey:
    """Checks a data set as ``check_data`` does, then counts it; files are read once, the facts of them are cached."""
    report = check_data(root, format, asked, progress)
    if report.errors:
        return Survey(report, asked)
    layout = read_layout(root, report.format, asked, [])
    assert layout.labels is not None
    return Survey(report, asked, layout, count_subsets(root, layout.labels, layout.subsets, asked.void))


def count_subsets(root: Path, labels: LabelSpace, subsets: Mapping[str, Subset], ignore: int) -> dict[str, SubsetStats]:
    """The counts of every subset, ``ignore`` being void. Raises :class:`SegError` for a file that cannot be read."""
    found = {name: SubsetStats(subset) for name, subset in subsets.items()}
    with FactCache(root) as cache:
        for stats in found.values():
            for facts in pair_facts(stats.subset, labels, cache):
                if facts.faults:
                    raise SegError(list(facts.faults))
                stats.add(facts, ignore)
    return found


def spread(counted: Iterable[tuple[float, int]]) -> Spread:
    """The spread of numbers that each occur so many times. The median is the lower of two in the middle."""
    ordered = sorted(counted)
    half, seen = sum(n for _, n in ordered) / 2, 0
    for value, n in ordered:
        seen += n
        if seen >= half:
            return Spread(ordered[0][0], value, ordered[-1][0])
    raise ValueError("a spread of nothing")
