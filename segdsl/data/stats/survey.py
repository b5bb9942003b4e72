"""Statistics of a dataset without errors: sizes and channels of the images, and class counts, by subset.

Everything is counted in one pass over the facts of the pairs. Only a few image positions are stored per class, so a
million images need no more memory than a hundred.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from segdsl.data.check.checker import CheckReport, ProgressCallback, check_data
from segdsl.data.check.facts import PairFacts, read_pair_facts
from segdsl.data.formats.labels import LabelSpace
from segdsl.data.formats.layout import DEFAULT_REQUEST, Layout, Request, Subset
from segdsl.data.formats.registry import read_layout
from segdsl.diagnostics import SegError
from segdsl.storage.fact_cache import FactCache

MAX_EXAMPLES = 8
"""Number of example images stored per class and subset: those with the largest share of the class."""
RARE_SHARE = 0.05
"""A class is rare if a smaller share of the images shows it."""
MIN_LISTED, COMMON_SHARE = 5, 0.9
"""How many of the rarest classes to list even if fewer are rare, except those that nearly all images show."""


class Spread(NamedTuple):
    """The minimum, median and maximum of some numbers."""

    minimum: float
    median: float
    maximum: float


class Example(NamedTuple):
    """An image that shows a class: the class's ``share`` of it, its ``position``, and all its pixel ``counts`` by
    value."""

    share: float
    position: int
    counts: Mapping[int, int]


@dataclass(slots=True)
class ClassStats:
    """Counts of one mask value: its pixels, the images that show it, and the labeled pixels of those images."""

    pixels: int = 0
    images: int = 0
    class_image_pixels: int = 0
    _best: list[tuple[float, int, Mapping[int, int]]] = field(default_factory=list)

    def add_image(self, position: int, counts: Mapping[int, int], value: int, ignore: int) -> None:
        """Count one image with these pixel ``counts`` by value."""
        whole = sum(counts.values())
        self.pixels += counts[value]
        self.images += 1
        # The denominator of median frequency balancing, see `segdsl.data.stats.class_weights`.
        self.class_image_pixels += whole - (counts.get(ignore, 0) if value != ignore else 0)
        # The negated position breaks ties: the earlier of two equal images stays, and dicts are never compared.
        entry = (counts[value] / whole, -position, counts)
        if len(self._best) < MAX_EXAMPLES:
            heapq.heappush(self._best, entry)
        else:
            heapq.heappushpop(self._best, entry)

    def list_examples(self) -> list[Example]:
        """Return the stored example images, the one with the largest share first."""
        best = sorted(self._best, key=lambda e: e[:2], reverse=True)
        return [Example(share, -position, counts) for share, position, counts in best]


@dataclass(slots=True)
class SubsetStats:
    """Counts of one subset.

    ``sizes`` are (height, width) after EXIF rotation; ``modes`` are Pillow's; ``values`` has an entry for every mask
    value that occurs.
    """

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
        """The number of pixels, including ignored ones."""
        return sum(height * width * n for (height, width), n in self.sizes.items())

    def get_class(self, value: int) -> ClassStats:
        """Return the counts of a mask value, all zero if it does not occur."""
        return self.values.get(value) or ClassStats()

    def get_image_name(self, position: int) -> str:
        """Return the path of an image in the folder of images."""
        return self.subset.get_image_path(position).relative_to(self.subset.image_folder).as_posix()

    def add_pair(self, facts: PairFacts, ignore: int) -> None:
        """Count one pair whose files are both readable."""
        image, mask = facts.image, facts.mask
        assert image is not None and mask is not None
        self.sizes[image.height, image.width] += 1
        self.modes[image.mode] += 1
        for value in mask.counts:
            self.values.setdefault(value, ClassStats()).add_image(facts.position, mask.counts, value, ignore)

    def compute_heights(self) -> Spread:
        """Return the spread of the image heights, in pixels."""
        return compute_spread((h, n) for (h, _), n in self.sizes.items())

    def compute_widths(self) -> Spread:
        """Return the spread of the image widths, in pixels."""
        return compute_spread((w, n) for (_, w), n in self.sizes.items())

    def compute_aspects(self) -> Spread:
        """Return the spread of width divided by height."""
        return compute_spread((w / h, n) for (h, w), n in self.sizes.items())

    def list_rarest_classes(self, classes: int) -> list[int]:
        """Return the ids of the rare classes (:data:`RARE_SHARE`) and of a few more, the rarest first.

        Classes that never occur are not included.
        """
        present = sorted(
            (self.get_class(k).images, self.get_class(k).pixels, k) for k in range(classes) if self.get_class(k).images
        )
        shares = [(images / self.images, k) for images, _, k in present]
        return [
            k for n, (share, k) in enumerate(shares) if share < RARE_SHARE or (share < COMMON_SHARE and n < MIN_LISTED)
        ]


@dataclass(frozen=True, slots=True)
class Survey:
    """The report of the data check for a ``request`` and, if it has no errors, the layout and the counts of each
    subset."""

    report: CheckReport
    request: Request = DEFAULT_REQUEST
    layout: Layout | None = None
    subsets: Mapping[str, SubsetStats] = field(default_factory=dict)

    @property
    def ignore(self) -> int:
        """The ignore value."""
        return self.request.void_id

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names by id."""
        return self.report.classes

    @property
    def labels(self) -> LabelSpace:
        """The label space; only a survey without errors has one."""
        assert self.layout is not None and self.layout.labels is not None
        return self.layout.labels


def survey_dataset(
    root: Path, format: str, request: Request = DEFAULT_REQUEST, progress: ProgressCallback | None = None
) -> Survey:
    """Check a dataset as ``check_data`` does, then count it. Files are read once, because their facts are cached."""
    report = check_data(root, format, request, progress)
    # Counts of a dataset with unreadable or mismatched files would be wrong.
    if report.errors:
        return Survey(report, request)
    layout = read_layout(root, report.format, request, [])
    assert layout.labels is not None
    return Survey(report, request, layout, count_subsets(root, layout.labels, layout.subsets, request.void_id))


def count_subsets(root: Path, labels: LabelSpace, subsets: Mapping[str, Subset], ignore: int) -> dict[str, SubsetStats]:
    """Return the counts of every subset. Raises :class:`SegError` for an unreadable file."""
    found = {name: SubsetStats(subset) for name, subset in subsets.items()}
    with FactCache(root) as cache:
        for stats in found.values():
            for facts in read_pair_facts(stats.subset, labels, cache):
                if facts.diagnostics:
                    raise SegError(list(facts.diagnostics))
                stats.add_pair(facts, ignore)
    return found


def compute_spread(counts: Iterable[tuple[float, int]]) -> Spread:
    """Return the spread of numbers with their counts; of two middle values, the median is the lower one."""
    ordered = sorted(counts)
    half, seen = sum(n for _, n in ordered) / 2, 0
    for value, n in ordered:
        seen += n
        if seen >= half:
            return Spread(ordered[0][0], value, ordered[-1][0])
    raise ValueError("the spread of no numbers is undefined")
