"""Diagnostics for failures of the machine during a run, such as running out of memory."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from segdsl.diagnostics import SegError, fail
from segdsl.diagnostics.out_of_memory import describe_shortage


@contextmanager
def diagnose_machine_faults() -> Iterator[None]:
    """Turn machine failures in the block into diagnostics (`out-of-memory`, `too-many-open-files`)."""
    try:
        yield
    except (RuntimeError, MemoryError, OSError) as error:
        found = find_machine_fault(error)
        if found is None:
            raise
        raise found from error


def find_machine_fault(error: BaseException) -> SegError | None:
    """Return the diagnostic of an error that the machine caused, or None for any other error."""
    if isinstance(error, torch.OutOfMemoryError) or describe_shortage(error):
        return fail(
            "out-of-memory",
            describe_shortage(error) or "out of memory",
            "use smaller batches (`--set data.train.batch=4`, `--set data.val.batch=1`) or a smaller `data.input_size`",
        )
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return fail(
            "too-many-open-files",
            "the limit of open files is reached",
            "raise it for this shell (`ulimit -n 1024`), or load images in the main process: "
            "`--set data.train.workers=0 --set data.val.workers=0`",
        )
    return None
