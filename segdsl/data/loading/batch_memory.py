"""Memory for batches that the main process shares with those that make them."""

from __future__ import annotations

import mmap
from typing import NamedTuple

import numpy as np


class Arrays(NamedTuple):
    """The samples of a batch: uint8 images (N, H, W, C) and uint8 class ids (N, H, W)."""

    images: np.ndarray
    targets: np.ndarray


class Stored(NamedTuple):
    """What a worker sends for a batch that it left in shared memory: the shape of its images."""

    shape: tuple[int, int, int, int]


class SharedMemory:
    """Memory for ``slots`` batches of at most ``slot_bytes`` bytes, and for the sample that each worker is reading.

    Only forked processes share it: pickled, it is empty, and has room for nothing.
    """

    def __init__(self, slots: int, slot_bytes: int, workers: int) -> None:
        self.slot_bytes = slot_bytes
        table = -(-workers * 8 // mmap.PAGESIZE) * mmap.PAGESIZE
        # Anonymous memory counts as the memory of the process; /dev/shm has a limit of its own.
        flags = mmap.MAP_SHARED | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
        memory = mmap.mmap(-1, table + slots * slot_bytes, flags=flags)
        self.positions = np.frombuffer(memory, np.int64, workers)
        """The position in the subset of what each worker is reading, or -1."""
        self._bytes = np.frombuffer(memory, np.uint8, slots * slot_bytes, offset=table).reshape(slots, slot_bytes)

    def store_arrays(self, slot: int, arrays: Arrays) -> Stored | Arrays:
        """Leave a batch in a slot; return it unchanged if it is too large."""
        images, targets = arrays
        if images.nbytes + targets.nbytes > self.slot_bytes:
            return arrays
        self._bytes[slot, : images.nbytes] = images.reshape(-1)
        self._bytes[slot, images.nbytes : images.nbytes + targets.nbytes] = targets.reshape(-1)
        return Stored(images.shape)

    def view_arrays(self, slot: int, stored: Stored) -> Arrays:
        """Return the batch in a slot, which is valid until the slot is used again."""
        size = int(np.prod(stored.shape))
        pixels = size // stored.shape[3]
        slot_bytes = self._bytes[slot]
        return Arrays(
            slot_bytes[:size].reshape(stored.shape), slot_bytes[size : size + pixels].reshape(stored.shape[:3])
        )
