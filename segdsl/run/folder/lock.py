"""Lock of a run folder: one process at a time works in it, and a process that died does not block others.

The system's lock on a file (`flock`) ends with the process that holds it, however that ends. On file systems without
it, the file names the process that owns the folder: its host, its process id, and its start time, so that another
process with the same id is not taken for the owner. Over NFS, Linux passes `flock` on to the server, which releases it
when the owner's machine is gone; with the mount option `nolock` or `local_lock=flock`, only processes of the same
machine see each other's locks.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from segdsl.diagnostics import SegError, fail
from segdsl.run.folder.layout import RunFolder, not_writable_error

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LOCK_FILE = ".occupied"
NO_LOCK_ERRORS = {errno.ENOSYS, errno.ENOTSUP, errno.EINVAL, errno.ENOLCK}
"""Errors of file systems that do not support locks."""
SETTLE_SECONDS = 0.5
"""Seconds within which, without system locks, two processes that took a folder at once have both written to it."""
MAX_TRIES = 100
"""Attempts to take a lock whose file keeps being removed by other processes."""
_open_locks: set[int] = set()
"""Open lock files of this process; forked children close theirs, or the lock would outlive this process."""


def _release_locks() -> None:
    for handle in _open_locks:
        with contextlib.suppress(OSError):
            os.close(handle)
    _open_locks.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_release_locks)


@contextmanager
def lock_run_folder(folder: RunFolder) -> Iterator[None]:
    """Hold the lock of an existing run folder inside the block.

    Raises SegError (`run-in-use`, `out-not-writable`).
    """
    path = folder.root / LOCK_FILE
    try:
        handle = _acquire_lock(path)
    except OSError as error:
        raise not_writable_error(folder.root) from error
    _open_locks.add(handle)
    try:
        yield
    finally:
        # Removed before it is unlocked: a process that opened the old file sees that it is gone and makes a new one.
        with contextlib.suppress(OSError):
            path.unlink()
        if handle in _open_locks:
            _open_locks.remove(handle)
            os.close(handle)


def _acquire_lock(path: Path) -> int:
    """Return the open lock file with this process as its owner. Raises SegError (`run-in-use`) and OSError."""
    for _ in range(MAX_TRIES):
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            owner = _read_owner(handle)
            if not (is_process_gone(owner) if (locked := _try_flock(handle)) is None else locked):
                raise _in_use_error(path, owner)
            if _is_same_file(handle, path):
                os.ftruncate(handle, 0)
                os.write(handle, json.dumps(describe_process()).encode())
                if locked is None and not _is_still_owner(handle):
                    raise _in_use_error(path, {})
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)
    raise OSError(errno.EAGAIN, "cannot take the lock")


def _try_flock(handle: int) -> bool | None:
    """Return whether the system granted a lock on a file; None if it has no locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCK_ERRORS:
            raise
        return None
    return True


def _is_same_file(handle: int, path: Path) -> bool:
    """Return whether an open file is still the one at ``path``."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _is_still_owner(handle: int) -> bool:
    """Return whether no process that found the folder free at the same moment has overwritten the owner."""
    time.sleep(SETTLE_SECONDS)
    os.lseek(handle, 0, os.SEEK_SET)
    return _read_owner(handle) == describe_process()


def _read_owner(handle: int) -> dict[str, Any]:
    """Return the owner written in the lock file, and rewind the file."""
    try:
        found = json.loads(os.read(handle, 4096) or b"{}")
    except ValueError:
        found = {}
    os.lseek(handle, 0, os.SEEK_SET)
    return found if isinstance(found, dict) else {}


def describe_process() -> dict[str, Any]:
    """Return what another process needs to tell whether this one still runs."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "started": _get_start_time(os.getpid())}


def is_process_gone(owner: dict[str, Any]) -> bool:
    """Return whether a process (see :func:`describe_process`) has ended; False for one on another machine."""
    if not owner:
        return True
    # On Windows `os.kill(pid, 0)` would end the process instead of probing it.
    if owner.get("host") != socket.gethostname() or os.name == "nt":
        return False
    try:
        os.kill(int(owner["pid"]), 0)
    except (ProcessLookupError, KeyError, TypeError, ValueError):
        return True
    except PermissionError:
        pass  # it runs, but belongs to another user
    return owner.get("started") != _get_start_time(int(owner["pid"]))


def _get_start_time(pid: int) -> str | None:
    """Return when a process was started, relative to a boot of the machine; None if the system does not tell."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        # The name of the program, in parentheses, may contain spaces and parentheses itself; fields are counted
        # after it.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return f"{boot}:{fields[19]}"


def _in_use_error(path: Path, owner: dict[str, Any]) -> SegError:
    who = f"process {owner.get('pid')} on {owner.get('host')}" if owner else "another process"
    return fail(
        "run-in-use",
        f"{who} is using the run folder `{path.parent}`",
        f"wait until it ends, or choose another folder with `--out`; if there is no such process, delete `{path}`",
        path=str(path.parent),
    )
