"""Locks between processes, on files: a process that died does not block others."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from segdsl.text.json import parse_json

NO_LOCK_ERRORS = {errno.ENOSYS, errno.ENOTSUP, errno.EINVAL, errno.ENOLCK}
"""Errors of file systems that do not support locks."""
POLL_SECONDS = 0.1


class LockHeldError(Exception):
    """Another process holds the lock; the message names it and the time since when, as far as they are known."""


@contextmanager
def hold_lock(path: Path, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold the lock file ``path`` inside the block, and remove it afterwards.

    If another process holds it, call ``on_wait`` and wait, or raise :class:`LockHeldError` if there is no ``on_wait``.
    Raises OSError.
    """
    lock = _acquire_lock(path, on_wait)
    try:
        yield
    finally:
        # Removed before it is unlocked: a process that has opened the old file notices that it is gone.
        with contextlib.suppress(OSError):
            path.unlink()
        lock.release()


def _acquire_lock(path: Path, on_wait: Callable[[], None] | None) -> BaseFileLock:
    lock: BaseFileLock = FileLock(path, fallback_to_soft=False)
    try:
        _try_lock(lock, on_wait)
    except OSError as error:
        if error.errno not in NO_LOCK_ERRORS:
            raise
        # Here the existence of the file is the lock; it names its owner itself.
        lock = SoftFileLock(path)
        _try_lock(lock, on_wait)
        return lock
    with contextlib.suppress(OSError):
        handle = os.open(path, os.O_WRONLY | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0))
        with open(handle, "w", encoding="utf-8") as file:
            json.dump([os.getpid(), socket.gethostname()], file)
    return lock


def _try_lock(lock: BaseFileLock, on_wait: Callable[[], None] | None) -> None:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if on_wait is None:
            raise LockHeldError(_describe_owner(Path(lock.lock_file))) from None
        on_wait()
        lock.acquire(poll_interval=POLL_SECONDS)


def _describe_owner(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
        pid, host, *_ = parse_json(text) if text.startswith("[") else text.split()
        since = datetime.fromtimestamp(path.stat().st_mtime)
    except (OSError, ValueError, TypeError):
        return "another process"
    return f"process {pid} on {host}, since {since:%Y-%m-%d %H:%M},"
