"""The subsets of a dataset as a page shows them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from segdsl.data.formats.labels import LabelSpace
from segdsl.data.pictures.palette import choose_colors, format_color
from segdsl.data.stats.describe import format_channels, format_sizes
from segdsl.data.stats.survey import SubsetStats

MAX_EXAMPLES = 3
"""Number of example images listed for a rare class."""


class ClassView(NamedTuple):
    """A row of the table of classes; ``color`` is None for ignored pixels."""

    name: str
    color: str | None
    pixels: int
    pixel_share: float
    images: int
    image_share: float


class SubsetView(NamedTuple):
    """A subset; ``rarest`` has the names of its rarest classes, each with those of the images that show it best."""

    name: str
    images: int
    sizes: str
    channels: str
    classes: list[ClassView]
    rarest: list[tuple[str, list[str]]]


def collect_dataset_view(root: Path, format: str, subsets: list[SubsetView]) -> dict[str, object]:
    """Return what `dataset.html.j2` draws."""
    return {"folder": str(root.resolve()), "format": format, "subsets": subsets, "missing": None}


def collect_subset_views(stats: Mapping[str, SubsetStats], labels: LabelSpace, ignore: int) -> list[SubsetView]:
    """Return the counts of every subset."""
    return [_collect_subset_view(name, found, labels, ignore) for name, found in stats.items()]


def _collect_subset_view(name: str, stats: SubsetStats, labels: LabelSpace, ignore: int) -> SubsetView:
    colors = map(format_color, choose_colors(labels))
    shown = [*zip(range(len(labels.classes)), labels.classes, colors, strict=True), (ignore, "ignored", None)]
    classes = [_collect_class_view(stats, *entry) for entry in shown]
    rarest = [
        (labels.classes[k], _list_example_names(stats, k)) for k in stats.list_rarest_classes(len(labels.classes))
    ]
    return SubsetView(name, stats.images, format_sizes(stats), format_channels(stats), classes, rarest)


def _collect_class_view(stats: SubsetStats, value: int, name: str, color: str | None) -> ClassView:
    found = stats.get_class(value)
    shares = found.pixels / stats.pixels, found.images / stats.images
    return ClassView(name, color, found.pixels, shares[0], found.images, shares[1])


def _list_example_names(stats: SubsetStats, value: int) -> list[str]:
    examples = stats.get_class(value).list_examples()[:MAX_EXAMPLES]
    return [stats.get_image_name(example.position) for example in examples]
