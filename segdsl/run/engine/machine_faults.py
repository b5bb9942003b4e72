"""Diagnostics for failures of the machine during a run, such as running out of memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from segdsl.data.loading.loader import diagnose_worker_death
from segdsl.diagnostics import SegError, fail
from segdsl.diagnostics.out_of_memory import describe_shortage

# torch and multiprocessing raise plain RuntimeErrors and OSErrors here; only their text tells them from others.
SHARING_ERRORS = ("unable to open shared memory", "received 0 items of ancdata", "Too many open files")


@contextmanager
def diagnose_machine_faults() -> Iterator[None]:
    """Turn machine failures in the block into diagnostics (`out-of-memory`, `shared-memory-full`, `worker-died`)."""
    try:
        yield
    except (RuntimeError, MemoryError, OSError) as error:
        found = find_machine_fault(error)
        if found is None:
            raise
        raise found from error


def find_machine_fault(error: BaseException) -> SegError | None:
    """Return the diagnostic of an error that the machine caused, or None for any other error."""
    text = str(error)
    # First: a worker's death arrives as a RuntimeError too, but its diagnostic can name the files being read.
    if (died := diagnose_worker_death(error)) is not None:
        return died
    if isinstance(error, torch.OutOfMemoryError) or describe_shortage(error):
        return fail(
            "out-of-memory",
            describe_shortage(error) or "out of memory",
            "use smaller batches (`--set data.train.batch=4`, `--set data.val.batch=1`) or a smaller `data.input_size`",
        )
    if any(sign in text for sign in SHARING_ERRORS):
        return fail(
            "shared-memory-full",
            "data-loader workers cannot pass on batches: shared memory or file descriptors are exhausted",
            "load images in the main process: `--set data.train.workers=0 --set data.val.workers=0`",
        )
    return None
