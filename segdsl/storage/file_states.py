"""Arrays of file names, and the size and times of each file, without a Python object per file.

A dataset may have millions of files. Names are bytes, as the operating system has them: not all are valid UTF-8.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

BLOCK_NAMES = 1 << 14
"""Number of names that exist as Python objects at the same time."""


class ImageNames(NamedTuple):
    """The images in a folder, sorted by stem: ``names`` and ``stems`` are arrays of the same length.

    ``dead_stems`` are the stems of dangling links, which are in neither array.
    """

    names: np.ndarray
    stems: np.ndarray
    dead_stems: frozenset[bytes] = frozenset()

    def list_all_stems(self) -> np.ndarray:
        """Return all stems, including those of dangling links."""
        return (
            np.union1d(self.stems, np.array(list(self.dead_stems), dtype=np.bytes_)) if self.dead_stems else self.stems
        )

    def get_names(self, stem: bytes) -> list[str] | None:
        """Return the names with this stem: None if there are none, an empty list if all are dangling links."""
        first, end = (int(np.searchsorted(self.stems, stem, side)) for side in ("left", "right"))
        if first == end:
            return [] if stem in self.dead_stems else None
        return [os.fsdecode(name) for name in self.names[first:end].tolist()]

    def drop_dead_links(self, names: Sequence[bytes]) -> ImageNames:
        """Move ``names``, which are dangling links, from the images to ``dead_stems``."""
        if not names:
            return self
        left = ~np.isin(self.names, np.array(names, dtype=np.bytes_))
        return ImageNames(self.names[left], self.stems[left], frozenset(self.stems[~left].tolist()))


def sort_image_names(rows: Iterable[tuple[bytes, bytes]]) -> ImageNames:
    """Sort (name, stem) rows by stem."""
    columns = _build_columns(rows, 2)
    order = np.lexsort(columns)
    return ImageNames(columns[0][order], columns[1][order])


def split_name(name: bytes) -> tuple[bytes, bytes]:
    """Split a file name into stem and suffix, as `pathlib` does."""
    dot = name.rfind(b".")
    return (name[:dot], name[dot:]) if 0 < dot < len(name) - 1 else (name, b"")


def encode_names(names: Iterable[str]) -> np.ndarray:
    """Return an array of file names as bytes."""
    return _build_columns(((os.fsencode(name),) for name in names), 1)[0]


def _build_columns(rows: Iterable[tuple[bytes, ...]], count: int) -> list[np.ndarray]:
    """Turn rows of ``count`` byte strings into one array per column."""
    # Each block becomes an array of its own, as wide as its longest name; np.concatenate widens them all once.
    parts = [[np.array([], dtype=np.bytes_)] for _ in range(count)]
    rest = iter(rows)
    while block := list(islice(rest, BLOCK_NAMES)):
        for part, column in zip(parts, zip(*block, strict=True), strict=True):
            part.append(np.array(column, dtype=np.bytes_))
    return [np.concatenate(part) for part in parts]


def find_odd_stems(images: ImageNames, masks: ImageNames, mask_suffixes: Collection[bytes]) -> np.ndarray:
    """Return, sorted, the stems that are not in both folders exactly once, and those of masks with another suffix."""
    doubled = [stems[1:][stems[1:] == stems[:-1]] for stems in (images.stems, masks.stems)]
    single = [np.setxor1d(images.stems, masks.stems)] if not np.array_equal(images.stems, masks.stems) else []
    others = (
        split_name(name)[1].lower() not in mask_suffixes
        for (block,) in iterate_blocks(masks.names)
        for name in block.tolist()
    )
    foreign = masks.stems[np.fromiter(others, bool, len(masks.names))]
    return np.unique(np.concatenate([*doubled, *single, foreign]))


def iterate_blocks(*columns: np.ndarray, length: int = BLOCK_NAMES) -> Iterator[tuple[np.ndarray, ...]]:
    """Yield arrays of equal length in pieces of at most ``length`` rows."""
    for start in range(0, len(columns[0]), length):
        yield tuple(column[start : start + length] for column in columns)


def read_stamps(folder: Path, names: np.ndarray) -> np.ndarray:
    """Return size and change time of files below a folder, int64 (N, 2); -1 for both if a file does not exist."""
    return read_states(folder, names)[:, :2]


def read_states(folder: Path, names: np.ndarray) -> np.ndarray:
    """Return size, change time and `st_mtime_ns` of files below a folder, int64 (N, 3); -1 for a missing file."""
    prefix = os.fsencode(f"{folder}{os.sep}")
    return np.array([_read_state(prefix + name) for name in names.tolist()], np.int64).reshape(-1, 3)


def combine_change_times(status: os.stat_result) -> int:
    """Combine modification and status-change time into one positive int64."""
    # Copying with preserved times, or unpacking an archive, sets mtime back; ctime cannot be set by a program.
    return (status.st_mtime_ns * 1_000_003 + status.st_ctime_ns) & (2**63 - 1)


def _read_state(path: bytes) -> tuple[int, int, int]:
    try:
        # Constructing a Path per file would take longer than the system call.
        status = os.stat(path)  # noqa: PTH116
    except (OSError, ValueError):
        return -1, -1, -1
    return status.st_size, combine_change_times(status), status.st_mtime_ns


def find_new_write_time(path: Path, old_write_time: int) -> int:
    """Return the `st_mtime_ns` of a file if it differs from ``old_write_time``, else 0.

    A missing file also gives 0: reading it reports the error.
    """
    try:
        now = os.stat(path).st_mtime_ns  # noqa: PTH116
    except (OSError, ValueError):
        return 0
    return now if now != old_write_time and old_write_time >= 0 else 0
