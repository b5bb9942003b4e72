"""Representative images of a dataset: every class is shown, the rare ones first."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import NamedTuple

from segdsl.data.stats.survey import Example, Survey

WELL_SHOWN = 0.25
"""An image shows a class well if its share of the class is at least this part of the largest share in any image."""


class Pick(NamedTuple):
    """An image by subset and position, with the ids of the classes it was chosen for and their shares of it."""

    subset: str
    position: int
    shows: tuple[tuple[int, float], ...] = ()


def picked(found: Survey, least: int) -> list[Pick]:
    """Return images that show every class that occurs, rarest first, then evenly spaced ones up to ``min_count``.

    The same dataset always gives the same images.
    """
    best = _best_images(found)
    picks: dict[tuple[str, int], tuple[Mapping[int, int], list[tuple[int, float]]]] = {}
    for value, (name, example) in best.items():
        # An image chosen for a rarer class may show this one well enough.
        if any(_share(counts, value) >= WELL_SHOWN * example.share for counts, _ in picks.values()):
            continue
        shows = picks.setdefault((name, example.position), (example.counts, []))[1]
        shows.append((value, example.share))
    chosen = [Pick(name, position, tuple(shows)) for (name, position), (_, shows) in picks.items()]
    images = sum(stats.images for stats in found.subsets.values())
    return chosen + _spread_out(found, picks.keys(), max(min(least, images) - len(chosen), 0))


def _best_images(found: Survey) -> dict[int, tuple[str, Example]]:
    """Return the subset and image that shows each class best, ordered from the rarest class by images and then by
    pixels."""
    counted = {k: [stats.of(k) for stats in found.subsets.values()] for k in range(len(found.classes))}
    seen = {k: (sum(c.images for c in all), sum(c.pixels for c in all)) for k, all in counted.items()}
    order = sorted((k for k, (images, _) in seen.items() if images and k != found.ignore), key=lambda k: (*seen[k], k))
    return {k: max(_firsts(found, k), key=lambda entry: entry[1].share) for k in order}


def _firsts(found: Survey, value: int) -> list[tuple[str, Example]]:
    return [(name, stats.of(value).examples()[0]) for name, stats in found.subsets.items() if stats.of(value).images]


def _share(counts: Mapping[int, int], value: int) -> float:
    return counts.get(value, 0) / sum(counts.values())


def _spread_out(found: Survey, taken: Container[tuple[str, int]], count: int) -> list[Pick]:
    """Return ``count`` images evenly spaced over all subsets, skipping those in ``taken``.

    At least ``count`` images must not be taken.
    """
    sizes = {name: stats.images for name, stats in found.subsets.items()}
    picks: dict[tuple[str, int], Pick] = {}
    for number in range(count):
        index = (2 * number + 1) * sum(sizes.values()) // (2 * count)
        while (place := _place(sizes, index)) in taken or place in picks:
            index += 1
        picks[place] = Pick(*place)
    return list(picks.values())


def _place(sizes: Mapping[str, int], index: int) -> tuple[str, int]:
    """Return the subset and position of the image at ``index`` over all subsets, starting again after the last one."""
    index %= sum(sizes.values())
    for name, images in sizes.items():
        if index < images:
            return name, index
        index -= images
    raise IndexError(index)
