"""Representative images of a dataset: every class is shown, the rare ones first."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import NamedTuple

from segdsl.data.stats.survey import Example, Survey

MIN_COVERAGE = 0.25
"""An image shows a class well if its share of the class is at least this part of the largest share in any image."""


class Pick(NamedTuple):
    """An image by subset and position, with the ids of the classes it was chosen for and their shares of it."""

    subset: str
    position: int
    class_shares: tuple[tuple[int, float], ...] = ()


def pick_images(survey: Survey, min_count: int) -> list[Pick]:
    """Return images that show every class that occurs, rarest first, then evenly spaced ones up to ``min_count``.

    The same dataset always gives the same images.
    """
    best = _find_best_images(survey)
    picks: dict[tuple[str, int], tuple[Mapping[int, int], list[tuple[int, float]]]] = {}
    for value, (name, example) in best.items():
        # An image chosen for a rarer class may show this one well enough.
        if any(_compute_share(counts, value) >= MIN_COVERAGE * example.share for counts, _ in picks.values()):
            continue
        shows = picks.setdefault((name, example.position), (example.counts, []))[1]
        shows.append((value, example.share))
    chosen = [Pick(name, position, tuple(shows)) for (name, position), (_, shows) in picks.items()]
    images = sum(stats.images for stats in survey.subsets.values())
    return chosen + _pick_evenly(survey, picks.keys(), max(min(min_count, images) - len(chosen), 0))


def _find_best_images(survey: Survey) -> dict[int, tuple[str, Example]]:
    """Return the subset and image that shows each class best, ordered from the rarest class by images and then by
    pixels."""
    counted = {k: [stats.get_class(k) for stats in survey.subsets.values()] for k in range(len(survey.classes))}
    seen = {k: (sum(c.images for c in all), sum(c.pixels for c in all)) for k, all in counted.items()}
    order = sorted((k for k, (images, _) in seen.items() if images and k != survey.ignore), key=lambda k: (*seen[k], k))
    return {k: max(_list_top_examples(survey, k), key=lambda entry: entry[1].share) for k in order}


def _list_top_examples(survey: Survey, value: int) -> list[tuple[str, Example]]:
    return [
        (name, stats.get_class(value).list_examples()[0])
        for name, stats in survey.subsets.items()
        if stats.get_class(value).images
    ]


def _compute_share(counts: Mapping[int, int], value: int) -> float:
    return counts.get(value, 0) / sum(counts.values())


def _pick_evenly(survey: Survey, taken: Container[tuple[str, int]], count: int) -> list[Pick]:
    """Return ``count`` images evenly spaced over all subsets, skipping those in ``taken``.

    At least ``count`` images must not be taken.
    """
    sizes = {name: stats.images for name, stats in survey.subsets.items()}
    picks: dict[tuple[str, int], Pick] = {}
    for number in range(count):
        index = (2 * number + 1) * sum(sizes.values()) // (2 * count)
        while (place := _locate_image(sizes, index)) in taken or place in picks:
            index += 1
        picks[place] = Pick(*place)
    return list(picks.values())


def _locate_image(sizes: Mapping[str, int], index: int) -> tuple[str, int]:
    """Return the subset and position of the image at ``index`` over all subsets, starting again after the last one."""
    index %= sum(sizes.values())
    for name, images in sizes.items():
        if index < images:
            return name, index
        index -= images
    raise IndexError(index)
