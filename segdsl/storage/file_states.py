"""Names of files in bulk: arrays of encoded names, and what the system knows of each, without an object for a file."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

BLOCK = 1 << 14
"""Names that are held as Python objects at a time."""


class Pictures(NamedTuple):
    """The pictures in a folder, in the order of their stems: ``names`` and ``stems`` are arrays of the same length.

    ``dead`` are the stems of links that lead to nothing, which are in neither array.
    """

    names: np.ndarray
    stems: np.ndarray
    dead: frozenset[bytes] = frozenset()

    def all_stems(self) -> np.ndarray:
        """The stems, with those of dead links."""
        return np.union1d(self.stems, np.array(list(self.dead), dtype=np.bytes_)) if self.dead else self.stems

    def called(self, stem: bytes) -> list[str] | None:
        """The names of one stem; None where there is none, an empty list where there are dead links only."""
        first, end = (int(np.searchsorted(self.stems, stem, side)) for side in ("left", "right"))
        if first == end:
            return [] if stem in self.dead else None
        return [os.fsdecode(name) for name in self.names[first:end].tolist()]

    def without(self, names: Sequence[bytes]) -> Pictures:
        """What is left when the links called ``names`` lead to nothing."""
        if not names:
            return self
        left = ~np.isin(self.names, np.array(names, dtype=np.bytes_))
        return Pictures(self.names[left], self.stems[left], frozenset(split(name)[0] for name in names))


def pictures(rows: Iterable[tuple[bytes, bytes]]) -> Pictures:
    """The pictures of these names and stems."""
    columns = _columns(rows, 2)
    order = np.lexsort(columns)
    return Pictures(columns[0][order], columns[1][order])


def split(name: bytes) -> tuple[bytes, bytes]:
    """The name of a file as its stem and its ending, as `pathlib` has them."""
    dot = name.rfind(b".")
    return (name[:dot], name[dot:]) if 0 < dot < len(name) - 1 else (name, b"")


def encoded(names: Iterable[str]) -> np.ndarray:
    """An array of encoded names."""
    return _columns(((os.fsencode(name),) for name in names), 1)[0]


def _columns(rows: Iterable[tuple[bytes, ...]], count: int) -> list[np.ndarray]:
    """Rows of ``count`` texts as arrays, one for each column."""
    parts = [[np.array([], dtype=np.bytes_)] for _ in range(count)]
    rest = iter(rows)
    while block := list(islice(rest, BLOCK)):
        for part, column in zip(parts, zip(*block, strict=True), strict=True):
            part.append(np.array(column, dtype=np.bytes_))
    return [np.concatenate(part) for part in parts]


def odd_stems(images: Pictures, masks: Pictures, endings: Collection[bytes]) -> np.ndarray:
    """The stems that are not in both folders exactly once, and those of masks with none of ``endings``; sorted."""
    doubled = [stems[1:][stems[1:] == stems[:-1]] for stems in (images.stems, masks.stems)]
    single = [np.setxor1d(images.stems, masks.stems)] if not np.array_equal(images.stems, masks.stems) else []
    others = (split(name)[1].lower() not in endings for (block,) in blocks(masks.names) for name in block.tolist())
    foreign = masks.stems[np.fromiter(others, bool, len(masks.names))]
    return np.unique(np.concatenate([*doubled, *single, foreign]))


def blocks(*columns: np.ndarray, length: int = BLOCK) -> Iterator[tuple[np.ndarray, ...]]:
    """Arrays of the same number of rows in pieces of at most ``length``."""
    for start in range(0, len(columns[0]), length):
        yield tuple(column[start : start + length] for column in columns)


def stamps(folder: Path, names: np.ndarray) -> np.ndarray:
    """Size and time of change of files below a folder, int64 (N, 2); -1 for both of one that is not there."""
    return states(folder, names)[:, :2]


def states(folder: Path, names: np.ndarray) -> np.ndarray:
    """The stamps of files, and when each was last written (`st_mtime_ns`), int64 (N, 3); -1 for one that is not
    there."""
    prefix = os.fsencode(f"{folder}{os.sep}")
    return np.array([_state(prefix + name) for name in names.tolist()], np.int64).reshape(-1, 3)


def changed(status: os.stat_result) -> int:
    """When a file was changed, by its own time and that of the system, which a copy does not set back; one number."""
    return (status.st_mtime_ns * 1_000_003 + status.st_ctime_ns) & (2**63 - 1)


def _state(path: bytes) -> tuple[int, int, int]:
    try:
        status = os.stat(path)  # noqa: PTH116 - a Path for each file takes longer than the system does
    except (OSError, ValueError):
        return -1, -1, -1
    return status.st_size, changed(status), status.st_mtime_ns


def written_since(path: Path, known: int) -> int:
    """When a file was written, as `st_mtime_ns`, if that is another time than ``known``; 0 for one that is as it was,
    and for one that is gone, which reading it says."""
    try:
        now = os.stat(path).st_mtime_ns  # noqa: PTH116 - as above
    except (OSError, ValueError):
        return 0
    return now if now != known and known >= 0 else 0
