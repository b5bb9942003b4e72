"""Lock of a run folder: one process at a time works in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from segdsl.diagnostics import fail
from segdsl.run.folder.layout import RunFolder, not_writable_error
from segdsl.storage.lock import LockHeldError, hold_lock

LOCK_FILE = ".occupied"


@contextmanager
def lock_run_folder(folder: RunFolder) -> Iterator[None]:
    """Hold the lock of an existing run folder inside the block.

    Raises SegError (`run-in-use`, `out-not-writable`).
    """
    path = folder.root / LOCK_FILE
    with ExitStack() as stack:
        try:
            stack.enter_context(hold_lock(path))
        except LockHeldError as error:
            help = "wait until it ends, or choose another folder with `--out`; if there is no such process, delete"
            message = f"{error} is using the run folder `{folder.root}`"
            raise fail("run-in-use", message, f"{help} `{path}`", path=str(folder.root)) from None
        except OSError as error:
            raise not_writable_error(folder.root) from error
        yield
