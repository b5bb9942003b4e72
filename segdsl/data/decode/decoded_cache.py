"""Decoded pictures kept in main memory, which all loading processes of a run share, up to a budget.

What is kept never changes what is read: it is what a file gave, at the size at which it was decoded. The first that
come are kept, and stay: an epoch uses every image once, so that giving one up for another wins nothing.
"""

from __future__ import annotations

import mmap
import multiprocessing
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segdsl.diagnostics import Diagnostic, SegError
from segdsl.ir.program import Program

MASK, WHOLE = 0, 1
"""What is kept of a pair besides the JPEG at a factor (2 to 5): the mask, and an image that is no such JPEG."""
KINDS = 6
ROW = np.dtype([("end", np.int64), ("height", np.int32), ("width", np.int32), ("channels", np.int32)], align=True)
AMOUNTS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
UNKNOWN_MEMORY = 8 * AMOUNTS["GiB"]
"""What is taken for the memory of a machine that does not tell."""
SHARE = 4
"""One part in so many of the memory that is free is taken where a program does not say how much."""
LIMITS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes")),
)
"""Where a container says how much memory it may take, and how much it has taken."""


RUN = np.dtype([("length", "<u4"), ("value", np.uint8)])


def run_lengths(mask: np.ndarray) -> np.ndarray:
    """A mask (H, W) as the runs of equal values along its rows, one after the other: uint8 (runs, 5).

    A thirtieth of the memory, and a fiftieth of the time of the PNG that it came from.
    """
    flat = mask.reshape(-1)
    starts = np.concatenate(([0], np.flatnonzero(flat[1:] != flat[:-1]) + 1))
    runs = np.empty(len(starts), RUN)
    runs["length"], runs["value"] = np.diff(starts, append=flat.size), flat[starts]
    return runs.view(np.uint8).reshape(len(starts), RUN.itemsize)


def from_run_lengths(packed: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """The mask of (height, width) ``size`` that :func:`run_lengths` packed."""
    runs = packed.reshape(-1).view(RUN)
    return np.repeat(runs["value"], runs["length"]).reshape(size)


class DecodedCache:
    """Arrays uint8 (H, W) or (H, W, C) of ``items`` pairs, by position and kind, ``budget`` bytes together.

    Memory is taken when it is filled. Processes that are forked share it; a copy for one that is not keeps nothing.
    """

    def __init__(self, items: int, budget: int) -> None:
        self.items, self.budget = items, budget
        self._lock: Any = None
        table = -(-items * KINDS * ROW.itemsize // mmap.PAGESIZE) * mmap.PAGESIZE
        if budget <= 0 or items <= 0 or multiprocessing.get_start_method() != "fork":
            self.budget = 0
            return
        try:
            flags = mmap.MAP_SHARED | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
            shared = mmap.mmap(-1, mmap.PAGESIZE + items * 8 + table + budget, flags=flags)
        except (OSError, ValueError, OverflowError):
            self.budget = 0
            return
        self._lock = multiprocessing.Lock()
        self._used = np.frombuffer(shared, np.int64, 1)
        self._sizes = np.frombuffer(shared, np.int64, items, offset=mmap.PAGESIZE)
        rows = mmap.PAGESIZE + items * 8
        self._rows = np.frombuffer(shared, ROW, items * KINDS, offset=rows).reshape(items, KINDS)
        self._bytes = np.frombuffer(shared, np.uint8, budget, offset=rows + table)

    def __reduce__(self) -> tuple[type[DecodedCache], tuple[int, int]]:
        return DecodedCache, (self.items, 0)

    @property
    def used(self) -> int:
        """Bytes that are taken."""
        return int(self._used[0]) if self.budget else 0

    def get(self, position: int, kind: int) -> np.ndarray | None:
        """The array of this kind, not to be written to; None where it is not kept."""
        if not self.budget:
            return None
        with self._lock:
            end, height, width, channels = self._rows[position, kind].tolist()
        if not end:
            return None
        shape = (height, width, channels) if channels else (height, width)
        found = self._bytes[end - height * width * max(channels, 1) : end].reshape(shape)
        found.flags.writeable = False
        return found

    def put(self, position: int, kind: int, array: np.ndarray) -> None:
        """Keeps an array, if there is room for it."""
        if not self.budget:
            return
        with self._lock:
            start, end = int(self._used[0]), int(self._used[0]) + array.size
            if end > self.budget or self._rows[position, kind]["end"]:
                return
            self._used[0] = end
        self._bytes[start:end] = array.reshape(-1)
        with self._lock:
            # Said only now that it is all there: another process may look at any moment.
            self._rows[position, kind] = (end, *array.shape, *(() if array.ndim == 3 else (0,)))

    def size(self, position: int) -> tuple[int, int] | None:
        """The (height, width) that :meth:`note_size` was told."""
        packed = int(self._sizes[position]) if self.budget else 0
        return (packed >> 32, packed & 0xFFFFFFFF) if packed else None

    def note_size(self, position: int, size: Sequence[int]) -> None:
        """Notes the (height, width) of an image that can be decoded at several sizes."""
        if self.budget:
            self._sizes[position] = size[0] << 32 | size[1]


NOTHING = DecodedCache(0, 0)
"""A cache that keeps nothing."""


def free_share() -> int:
    """Bytes of memory that a cache may take where nothing else is said; 0 where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return 0
    free = next((int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")), 0)
    for limit, taken in LIMITS:
        most, now = _number(limit), _number(taken)
        if most is not None and now is not None:
            free = min(free, max(most - now, 0))
    return free // SHARE


def whole_memory() -> int:
    """Bytes of main memory, or what a container is allowed of it."""
    try:
        whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        whole = UNKNOWN_MEMORY
    limits = [most for file, _ in LIMITS if (most := _number(file)) is not None and most > 0]
    return min([whole, *limits])


def cache_budget(program: Program) -> int:
    """Bytes for decoded pictures, as `data.cache` says. Raises SegError (`cache-too-large`) for more than there is."""
    asked = program.data.cache
    if asked is None:
        return free_share()
    wanted, whole = asked.value * AMOUNTS[asked.unit], whole_memory()
    if wanted > whole:
        message = f"`data.cache` asks for {asked}, and this machine has {whole / AMOUNTS['GiB']:.1f} GiB of memory"
        room = max(whole // (2 * AMOUNTS["GiB"]), 1)
        help = f"write `cache = {room} GiB`, or leave it out: a quarter of what is free is taken then"
        span = program.spans.get("data.cache")
        texts = {name: source.text for name, source in program.sources.items()}
        raise SegError([Diagnostic("cache-too-large", message, help, span=span)], texts)
    return int(wanted)


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
