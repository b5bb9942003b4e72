"""Faults of the machine during a run, in words that say what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from segdsl.data.loading.loader import worker_died
from segdsl.diagnostics import SegError, fail
from segdsl.diagnostics.out_of_memory import shortage

SHARING_SIGNS = ("unable to open shared memory", "received 0 items of ancdata", "Too many open files")


@contextmanager
def explained() -> Iterator[None]:
    """Turns faults of the machine into diagnostics (`out-of-memory`, `shared-memory-full`, `worker-died`)."""
    try:
        yield
    except (RuntimeError, MemoryError, OSError) as error:
        found = explain(error)
        if found is None:
            raise
        raise found from error


def explain(error: BaseException) -> SegError | None:
    """The diagnostic of an error that the machine is at fault for, or None."""
    text = str(error)
    if (died := worker_died(error)) is not None:
        return died
    if isinstance(error, torch.OutOfMemoryError) or shortage(error):
        return fail(
            "out-of-memory",
            shortage(error) or "the memory is full",
            "use smaller batches (`--set data.train.batch=4`, `--set data.val.batch=1`) or a smaller `data.input_size`",
        )
    if any(sign in text for sign in SHARING_SIGNS):
        return fail(
            "shared-memory-full",
            "the processes that load images cannot hand them over: shared memory or open files are used up",
            "load in the main process: `--set data.train.workers=0 --set data.val.workers=0`",
        )
    return None
