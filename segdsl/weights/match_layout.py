"""Finding a model's tensors in a file: in which dictionary of it, under which prefix, and by whose names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor

from segdsl.weights.layouts import layouts_of

MAX_DEPTH = 3
"""Dictionaries in dictionaries that are looked into."""
PROBES, PREFIXES = 24, 6
"""Keys of the model that are looked for in a file, and prefixes found by them that are tried."""
AVERAGED = re.compile(r"(^|[._])(ema|teacher|averaged|swa)([._]|$)", re.IGNORECASE)
"""In the names of the copy of a model that is its average, and that its authors publish."""
STATE = re.compile(r"(^|\.)(optim\w*|\w*scheduler\w*|loops|callbacks|scaler)(\.|$)|:", re.IGNORECASE)
"""In the names of what belongs to a training and is no model, though its keys may be a model's."""


@dataclass(slots=True)
class Reading:
    """The tensors of a file under the keys of a model; ``others`` are those under none, by the key in the file.

    ``rivals`` are other places of the file that would do as well, with other numbers.
    ``place`` is the dictionary they lie in (`model.state_dict`), ``prefix`` what was cut off their keys there, and
    ``layout`` whose names they had.
    """

    tensors: dict[str, Tensor] = field(default_factory=dict)
    others: dict[str, Tensor] = field(default_factory=dict)
    place: str = ""
    prefix: str = ""
    layout: str = ""
    rivals: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        """The place and the prefix, as one path."""
        return f"{self.place}.{self.prefix}".strip(".")


def best_reading(content: Mapping[str, Any], ours: Mapping[str, Tensor], start: str) -> Reading:
    """The reading in which most tensors have a key and the shape of ``ours``, whose keys all begin with ``start``.

    A place that is called as the part is goes before any other (`model.backbone.norm1` for `backbone.norm1`). Among
    equals the averaged copy of a model is taken, else the first.
    """
    bare = {key[len(start) :]: key for key in ours}
    best: tuple[tuple[int, ...], Reading] | None = None
    rivals: list[Reading] = []
    for reading in _readings(content, bare, start):
        same = [key for key in reading.tensors if reading.tensors[key].shape == ours[key].shape]
        kinship = _kinship(reading.prefix, start) if reading.tensors else (-1, False)
        score = (*kinship, len(same), len(reading.tensors), bool(AVERAGED.search(reading.where)))
        if best is None or score > best[0]:
            best, rivals = (score, reading), []
        elif score == best[0] and same and not _equal(reading, best[1]):
            rivals.append(reading)
    if best is None:
        return Reading()
    best[1].rivals = tuple(dict.fromkeys(reading.where for reading in rivals if reading.where != best[1].where))
    return best[1]


def _kinship(prefix: str, start: str) -> tuple[int, bool]:
    """How many names at the end of a prefix are those at the end of the part's path, and whether the shorter of both is
    used up by them (`norm1` for `backbone.norm1`, and not `block1.0.norm1`)."""
    names, path = prefix.split(".")[:-1], start.split(".")[:-1]
    pairs = zip(reversed(names), reversed(path), strict=False)
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    return same, same == min(len(names), len(path))


def _equal(one: Reading, other: Reading) -> bool:
    """Whether two readings give the same numbers."""
    try:
        return all(k in other.tensors and torch.equal(value, other.tensors[k]) for k, value in one.tensors.items())
    except (RuntimeError, NotImplementedError):  # tensors that no numbers can be read of
        return False


def _readings(content: Mapping[str, Any], bare: Mapping[str, str], start: str) -> Iterator[Reading]:
    for place, tensors in dictionaries(content):
        for layout, named in layouts_of(tensors):
            for prefix in _prefixes(named, bare, start):
                reading = Reading(place=place, prefix=prefix, layout=layout)
                for key, value in named.items():
                    ours = bare.get(key[len(prefix) :]) if key.startswith(prefix) else None
                    if ours is None:
                        reading.others[key] = value
                    else:
                        reading.tensors[ours] = value
                yield reading


def dictionaries(content: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Every dictionary in a file that holds tensors, with its place; each once, and none of a training's state."""
    waiting: list[tuple[str, Any, int]] = [("", content, 0)]
    seen: set[int] = set()
    while waiting:
        place, found, depth = waiting.pop(0)
        if id(found) in seen or STATE.search(place):
            continue
        seen.add(id(found))
        entries = list(dict.items(found))
        tensors = {str(key): value for key, value in entries if isinstance(value, Tensor) and not value.is_nested}
        if tensors:
            yield place, tensors
        if depth < MAX_DEPTH:
            inner = [(str(name), value) for name, value in entries if isinstance(value, dict)]
            waiting += [(f"{place}.{name}" if place else name, value, depth + 1) for name, value in inner]


def _prefixes(named: Mapping[str, Tensor], bare: Mapping[str, str], start: str) -> list[str]:
    """What stands before the model's keys in a file: found by looking for some of them, the longest ones."""
    probes = sorted(bare, key=lambda key: (-key.count("."), -len(key)))
    probes = probes[:: max(len(probes) // PROBES, 1)]
    found: Counter[str] = Counter()
    for key in named:
        for probe in probes:
            if key.endswith(probe) and (len(key) == len(probe) or key[-len(probe) - 1] == "."):
                found[key[: len(key) - len(probe)]] += 1
    found = Counter({prefix: count for prefix, count in found.items() if not STATE.search(prefix)})
    kin = max((_kinship(prefix, start) for prefix in found), default=(0, True))
    nearest = {prefix: count for prefix, count in found.items() if _kinship(prefix, start) == kin}
    return [prefix for prefix, _ in Counter(nearest).most_common(PREFIXES)] or [""]
