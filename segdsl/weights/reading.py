"""Finding a model's tensors in a file: in which dictionary of it, under which prefix, and by whose names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from segdsl.weights.layouts import layouts_of

MAX_DEPTH = 3
"""Dictionaries in dictionaries that are looked into."""
PROBES, PREFIXES = 24, 6
"""Keys of the model that are looked for in a file, and prefixes found by them that are tried."""
AVERAGED = ("ema", "teacher")
"""Names of the copy of a model that is its average, and that its authors publish."""


@dataclass(slots=True)
class Reading:
    """The tensors of a file under the keys of a model; ``others`` are those under none, by the key in the file.

    ``place`` is the dictionary they lie in (`model.state_dict`), ``prefix`` what was cut off their keys there, and
    ``layout`` whose names they had.
    """

    tensors: dict[str, Tensor] = field(default_factory=dict)
    others: dict[str, Tensor] = field(default_factory=dict)
    place: str = ""
    prefix: str = ""
    layout: str = ""


def best_reading(content: Mapping[str, Any], ours: Mapping[str, Tensor], start: str) -> Reading:
    """The reading in which most tensors have a key and the shape of ``ours``, whose keys all begin with ``start``.

    Among equals the averaged copy of a model is taken, else the first.
    """
    bare = {key[len(start) :]: key for key in ours}
    best: tuple[tuple[int, ...], Reading] | None = None
    for order, reading in enumerate(_readings(content, bare)):
        same = [key for key in reading.tensors if reading.tensors[key].shape == ours[key].shape]
        averaged = any(name in f"{reading.place}.{reading.prefix}".split(".") for name in AVERAGED)
        score = (len(same), len(reading.tensors), averaged, -len(reading.prefix), -order)
        if best is None or score > best[0]:
            best = (score, reading)
    return best[1] if best else Reading()


def _readings(content: Mapping[str, Any], bare: Mapping[str, str]) -> Iterator[Reading]:
    for place, tensors in dictionaries(content):
        for layout, named in layouts_of(tensors):
            for prefix in _prefixes(named, bare):
                reading = Reading(place=place, prefix=prefix, layout=layout)
                for key, value in named.items():
                    ours = bare.get(key[len(prefix) :]) if key.startswith(prefix) else None
                    if ours is None:
                        reading.others[key] = value
                    else:
                        reading.tensors[ours] = value
                yield reading


def dictionaries(
    content: Mapping[str, Any], place: str = "", depth: int = 0
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Every dictionary in a file that holds tensors, with its place."""
    tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    if tensors:
        yield place, tensors
    for name, value in content.items():
        if isinstance(value, Mapping) and depth < MAX_DEPTH:
            yield from dictionaries(value, f"{place}.{name}" if place else str(name), depth + 1)


def _prefixes(named: Mapping[str, Tensor], bare: Mapping[str, str]) -> list[str]:
    """What stands before the model's keys in a file: found by looking for some of them, the longest ones."""
    probes = sorted(bare, key=lambda key: (-key.count("."), -len(key)))
    probes = probes[:: max(len(probes) // PROBES, 1)]
    found: Counter[str] = Counter()
    for key in named:
        for probe in probes:
            if key.endswith(probe) and (len(key) == len(probe) or key[-len(probe) - 1] == "."):
                found[key[: len(key) - len(probe)]] += 1
    return [prefix for prefix, _ in found.most_common(PREFIXES)] or [""]
