"""What a worker process does: it makes batches until its pipe is closed."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch

from segdsl.data.augment.sample import Sample
from segdsl.data.loading.batch_memory import Arrays, SharedMemory
from segdsl.data.loading.dataset import SampleKey
from segdsl.diagnostics import SegError

ORPHAN_SECONDS = 5.0
"""Seconds between two looks of an idle worker at its parent, where the system does not end it with the parent."""
MALLOC_OPTIONS = ((-3, 32 << 20), (-1, 64 << 20))
"""glibc's M_MMAP_THRESHOLD and M_TRIM_THRESHOLD (malloc.h), in bytes."""
PR_SET_PDEATHSIG = 1
"""prctl(2): the signal that a process gets when the thread that created it ends."""

Key = SampleKey | int


class Job(NamedTuple):
    """A batch to make: the number of its pass, its place in that, its samples, and the memory for the result."""

    pass_number: int
    place: int
    keys: list[Key]
    slot: int


def make_batch(read_sample: Callable[[Any], Sample], keys: Sequence[Key]) -> Arrays:
    """Read the samples of a batch. Raises SegError for a bad file."""
    samples = [read_sample(key) for key in keys]
    return Arrays(np.stack([s.image for s in samples]), np.stack([s.mask for s in samples]))


def serve_batches(
    connection: Connection, read_sample: Callable[[Any], Sample], memory: SharedMemory | None, number: int
) -> None:
    """Make batches until the pipe is closed, in a process of its own."""
    parent = os.getppid()
    init_worker()

    def read(key: Key) -> Sample:
        if memory is not None:
            memory.positions[number] = get_position(key)
        return read_sample(key)

    with contextlib.suppress(EOFError, OSError):
        while True:
            while not connection.poll(ORPHAN_SECONDS):
                if os.getppid() != parent:
                    return
            job: Job = connection.recv()
            result = _run_job(job, read, memory)
            if memory is not None:
                memory.positions[number] = -1
            connection.send(result)


def _run_job(job: Job, read: Callable[[Key], Sample], memory: SharedMemory | None) -> Any:
    """Return what a worker sends for a job: a batch, the diagnostics of a bad file, or any other error."""
    # An exception would lose its diagnostics between processes, so they are sent as such.
    try:
        arrays = make_batch(read, job.keys)
        return arrays if memory is None else memory.store_arrays(job.slot, arrays)
    except SegError as error:
        return tuple(error.diagnostics)
    except Exception as error:
        return _wrap_error(error)


def _wrap_error(error: Exception) -> Exception:
    """Return an error that can be sent to another process, with the place where this one was raised."""
    if isinstance(error, MemoryError):
        return MemoryError(str(error) or "a data-loader worker ran out of memory")
    if isinstance(error, OSError):
        return OSError(error.errno, error.strerror, error.filename)
    return RuntimeError("in a data-loader worker: " + "".join(traceback.format_exception(error)))


def get_position(key: Key) -> int:
    """Return the position of a sample in its subset."""
    return key.position if isinstance(key, SampleKey) else key


def prepare_worker() -> None:
    """Configure this process for loading: one thread, and memory of released images kept for reuse."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    # By default glibc returns large blocks to the system and requests them again: 600 page faults, a fifth of the
    # time of a sample. Other C libraries have no mallopt.
    with contextlib.suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        for option, size in MALLOC_OPTIONS:
            mallopt(option, size)


def init_worker() -> None:
    """Configure this process as a worker that ignores terminal signals and never outlives its parent."""
    prepare_worker()
    # Ctrl-C in a terminal, and closing it, signals all processes; a worker that ended would lose its current batch.
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.set_wakeup_fd(-1)
    # Linux only; elsewhere a worker notices on its own that its parent is gone.
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
