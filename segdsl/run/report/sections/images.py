"""The section on images: the best and worst images of a run, each with its target and its prediction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from segdsl.data.augment.lazy import read_sample
from segdsl.data.check.index import Index
from segdsl.data.decode.images import convert_to_rgb
from segdsl.data.pictures.palette import choose_colors, format_color
from segdsl.data.pictures.thumbnails import draw_thumbnails, make_picture, sort_values_by_frequency
from segdsl.pages.page import Picture
from segdsl.run.report.best_worst import ImageRank
from segdsl.run.report.run_data import RunData

MAX_IMAGE_SIZE = (320, 320)
"""Maximum height and width of an image, in pixels."""
MAX_CLASSES = 4
"""Number of classes listed in the description of a mask."""


class SampleView(NamedTuple):
    """An image with its target and prediction, each with its label."""

    name: str
    dice: float
    pictures: list[tuple[str, Picture]]


def collect_images(run: RunData) -> dict[str, object]:
    """Return the worst and the best images."""
    if run.ranking is None or run.index is None:
        return {"missing": f"No images: {run.missing}."}
    seen: set[int] = set()
    worst, best = (
        [_collect_sample(run, run.index, entry, seen) for entry in entries]
        for entries in (run.ranking.worst, run.ranking.best)
    )
    missing = "" if seen else "No image has a pixel to score."
    return {"missing": missing, "legend": _collect_legend(run.index, seen), "worst": worst, "best": best}


def _collect_legend(index: Index, seen: set[int]) -> list[tuple[str, str | None, str]]:
    """Return the colors of the classes in the images; ignored pixels come last."""
    pairs = enumerate(zip(index.classes, choose_colors(index.labels), strict=True))
    entries: list[tuple[str, str | None, str]] = [
        (name, format_color(color), "") for k, (name, color) in pairs if k in seen
    ]
    return [*entries, *([("ignored", None, "")] if index.ignore in seen else [])]


def _collect_sample(run: RunData, index: Index, entry: ImageRank, seen: set[int]) -> SampleView:
    """Return an image with its target and prediction; add the values of both to ``seen``."""
    subset = index.get_subset(run.program.data.val.subset)
    sample = read_sample(index, subset, entry.position)
    masks = [sample.mask, entry.prediction]
    for mask in masks:
        seen.update(np.unique(mask).tolist())
    tiles = draw_thumbnails(
        convert_to_rgb(sample.image), masks, choose_colors(index.labels), index.ignore, MAX_IMAGE_SIZE
    )
    name = subset.get_image_path(entry.position).relative_to(subset.image_folder).as_posix()
    labels = dict(enumerate(run.classes)) | {index.ignore: "ignored"}
    target, prediction = (_describe_mask(mask, labels) for mask in masks)
    texts = f"the image {name}", f"its target: {target}", f"its prediction: {prediction}"
    pictures = map(make_picture, tiles, texts)
    return SampleView(name, entry.dice, [*zip(("image", "target", "prediction"), pictures, strict=True)])


def _describe_mask(mask: np.ndarray, labels: Mapping[int, str]) -> str:
    """Describe a mask by the classes that cover most of it."""
    shares = np.bincount(mask.ravel(), minlength=256) / mask.size
    values = [value for value in sort_values_by_frequency(mask) if value in labels]
    texts = [f"{labels[value]} {shares[value]:.0%}" for value in values[:MAX_CLASSES]]
    return ", ".join([*texts, *(["…"] if len(values) > MAX_CLASSES else [])])
