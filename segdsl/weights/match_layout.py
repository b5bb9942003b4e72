"""Finding the tensors of a model in a file: in which dictionary, under which prefix, and in which layout."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor

from segdsl.weights.layouts import iterate_layouts

# Nesting depth to which dictionaries in a file are searched.
MAX_DEPTH = 3
# Keys of the model that are looked up in a file, and candidate prefixes that are tried in full. Both bound the time
# for a hostile file; real files have one or two prefixes.
PROBE_COUNT, MAX_PREFIXES = 24, 6
# Names of the averaged copy of a model, the one that its authors evaluate and publish.
AVERAGE_PATTERN = re.compile(r"(^|[._])(ema|teacher|averaged|swa)([._]|$)", re.IGNORECASE)
# Names of training state. It is not a model, although an optimizer's moments can have the keys and shapes of one.
TRAINING_STATE_PATTERN = re.compile(r"(^|\.)(optim\w*|\w*scheduler\w*|loops|callbacks|scaler)(\.|$)|:", re.IGNORECASE)


@dataclass(slots=True)
class LayoutMatch:
    """The tensors of a file under the keys of a model, and the remaining ones, ``leftovers``, under their own keys.

    ``container`` is the path of the dictionary in the file (`model.state_dict`), ``prefix`` was removed from the keys
    in it, and ``layout`` is the name of their naming scheme. ``rivals`` are other locations in the file that match
    equally well but have different values.
    """

    tensors: dict[str, Tensor] = field(default_factory=dict)
    leftovers: dict[str, Tensor] = field(default_factory=dict)
    container: str = ""
    prefix: str = ""
    layout: str = ""
    rivals: tuple[str, ...] = ()

    @property
    def location(self) -> str:
        """The container and the prefix as one path."""
        return f"{self.container}.{self.prefix}".strip(".")


def find_best_match(content: Mapping[str, Any], model_tensors: Mapping[str, Tensor], key_prefix: str) -> LayoutMatch:
    """Return the match in which the most tensors have a key and the shape of ``model_tensors``.

    The keys of ``model_tensors`` all begin with ``key_prefix``. A location with the name of the part is preferred to
    any other (`model.backbone.norm1` for `backbone.norm1`). Ties are broken in favor of the averaged copy of a model,
    then of the first match.
    """
    bare = {key[len(key_prefix) :]: key for key in model_tensors}
    best: tuple[tuple[int, ...], LayoutMatch] | None = None
    rivals: list[LayoutMatch] = []
    for reading in _iterate_matches(content, bare, key_prefix):
        same = [key for key in reading.tensors if reading.tensors[key].shape == model_tensors[key].shape]
        # The name comes before the count: repeated blocks have equal shapes, and only their names tell them apart.
        kinship = _rank_prefix(reading.prefix, key_prefix) if reading.tensors else (-1, False)
        score = (*kinship, len(same), len(reading.tensors), bool(AVERAGE_PATTERN.search(reading.location)))
        if best is None or score > best[0]:
            best, rivals = (score, reading), []
        elif score == best[0] and same and not _has_equal_tensors(reading, best[1]):
            rivals.append(reading)
    if best is None:
        return LayoutMatch()
    best[1].rivals = tuple(
        dict.fromkeys(reading.location for reading in rivals if reading.location != best[1].location)
    )
    return best[1]


def _rank_prefix(prefix: str, key_prefix: str) -> tuple[int, bool]:
    """Return how many trailing names a prefix and the path of the part share, and whether the shorter one is used up.

    For the part `backbone.norm1`, the prefix `norm1` is used up, but `block1.0.norm1` is not.
    """
    names, path = prefix.split(".")[:-1], key_prefix.split(".")[:-1]
    pairs = zip(reversed(names), reversed(path), strict=False)
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    return same, same == min(len(names), len(path))


def _has_equal_tensors(one: LayoutMatch, other: LayoutMatch) -> bool:
    """Return whether two matches have the same values."""
    # Comparing tensors without values, sparse or nested ones raises; they are rejected later with a proper message.
    try:
        return all(k in other.tensors and torch.equal(value, other.tensors[k]) for k, value in one.tensors.items())
    except (RuntimeError, NotImplementedError):
        return False


def _iterate_matches(
    content: Mapping[str, Any], model_keys: Mapping[str, str], key_prefix: str
) -> Iterator[LayoutMatch]:
    for place, tensors in find_tensor_dictionaries(content):
        for layout, named in iterate_layouts(tensors):
            for prefix in _find_prefixes(named, model_keys, key_prefix):
                reading = LayoutMatch(container=place, prefix=prefix, layout=layout)
                for key, value in named.items():
                    ours = model_keys.get(key[len(prefix) :]) if key.startswith(prefix) else None
                    if ours is None:
                        reading.leftovers[key] = value
                    else:
                        reading.tensors[ours] = value
                yield reading


def find_tensor_dictionaries(content: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield the path and tensors of each dictionary in a file, breadth first, without training state."""
    # A file can contain itself, or reach one dictionary in many ways: each is visited once, by identity.
    waiting: list[tuple[str, Any, int]] = [("", content, 0)]
    seen: set[int] = set()
    while waiting:
        place, found, depth = waiting.pop(0)
        if id(found) in seen or TRAINING_STATE_PATTERN.search(place):
            continue
        seen.add(id(found))
        entries = list(dict.items(found))
        tensors = {str(key): value for key, value in entries if isinstance(value, Tensor) and not value.is_nested}
        if tensors:
            yield place, tensors
        if depth < MAX_DEPTH:
            inner = [(str(name), value) for name, value in entries if isinstance(value, dict)]
            waiting += [(f"{place}.{name}" if place else name, value, depth + 1) for name, value in inner]


def _find_prefixes(file_tensors: Mapping[str, Tensor], model_keys: Mapping[str, str], key_prefix: str) -> list[str]:
    """Return the candidate prefixes of the model's keys in a file."""
    # Only some keys are looked up, because every one is compared with all keys of the file. Long keys come first: a
    # short one such as `weight` ends many unrelated keys.
    probes = sorted(model_keys, key=lambda key: (-key.count("."), -len(key)))
    probes = probes[:: max(len(probes) // PROBE_COUNT, 1)]
    found: Counter[str] = Counter()
    for key in file_tensors:
        for probe in probes:
            if key.endswith(probe) and (len(key) == len(probe) or key[-len(probe) - 1] == "."):
                found[key[: len(key) - len(probe)]] += 1
    found = Counter({prefix: count for prefix, count in found.items() if not TRAINING_STATE_PATTERN.search(prefix)})
    kin = max((_rank_prefix(prefix, key_prefix) for prefix in found), default=(0, True))
    nearest = {prefix: count for prefix, count in found.items() if _rank_prefix(prefix, key_prefix) == kin}
    return [prefix for prefix, _ in Counter(nearest).most_common(MAX_PREFIXES)] or [""]
