"""One process at a time works in a run folder; what died there does not keep the others out.

The system's lock on a file (`flock`) ends with the process that holds it, however that ends. Where a file system has
none, the file says which process holds the folder: its machine, its number, and when it was started, so that another
process of the same number is no owner. Over NFS, Linux hands `flock` on to the server, which frees it when the machine
of the owner is gone; under the mount option `nolock`, or `local_lock=flock`, only the processes of one machine see each
other.
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
from segdsl.run.folder.layout import RunFolder, not_writable

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

NAME = ".occupied"
NO_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.EINVAL, errno.ENOLCK}
"""What file systems say that have no locks."""
SETTLING = 0.5
"""Seconds in which two processes that take a folder at the same moment have both said so, where there are no locks."""
TRIES = 100
"""A lock is taken again when its file was removed meanwhile."""
_held: set[int] = set()
"""The open files of the locks of this process; those that it forks must not keep them."""


def _let_go() -> None:
    for handle in _held:
        with contextlib.suppress(OSError):
            os.close(handle)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


@contextmanager
def occupied(folder: RunFolder) -> Iterator[None]:
    """While this process alone works in a run folder, which exists.

    Raises SegError (`run-in-use`, `out-not-writable`).
    """
    path = folder.root / NAME
    try:
        handle = _taken(path)
    except OSError as error:
        raise not_writable(folder.root) from error
    _held.add(handle)
    try:
        yield
    finally:
        # Removed while it is held: whoever waits for it sees that and takes a new one.
        with contextlib.suppress(OSError):
            path.unlink()
        if handle in _held:
            _held.remove(handle)
            os.close(handle)


def _taken(path: Path) -> int:
    """The open file of the lock, with this process written into it. Raises SegError (`run-in-use`) and OSError."""
    for _ in range(TRIES):
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            owner = _owner(handle)
            if not (is_gone(owner) if (locked := _locked(handle)) is None else locked):
                raise _in_use(path, owner)
            if _is_at(handle, path):
                os.ftruncate(handle, 0)
                os.write(handle, json.dumps(this_process()).encode())
                if locked is None and not _is_ours_still(handle):
                    raise _in_use(path, {})
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)
    raise OSError(errno.EAGAIN, "the lock cannot be had")


def _locked(handle: int) -> bool | None:
    """Whether the system gives the lock on a file; None where it has none."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return None
    return True


def _is_at(handle: int, path: Path) -> bool:
    """Whether an open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _is_ours_still(handle: int) -> bool:
    """Whether no other process, which found the folder free at the same moment, has written itself into the file."""
    time.sleep(SETTLING)
    os.lseek(handle, 0, os.SEEK_SET)
    return _owner(handle) == this_process()


def _owner(handle: int) -> dict[str, Any]:
    """What the file says of its owner; the next read or write begins at its start."""
    try:
        found = json.loads(os.read(handle, 4096) or b"{}")
    except ValueError:
        found = {}
    os.lseek(handle, 0, os.SEEK_SET)
    return found if isinstance(found, dict) else {}


def this_process() -> dict[str, Any]:
    """This process, so that another can tell whether it still runs."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "started": _started(os.getpid())}


def is_gone(owner: dict[str, Any]) -> bool:
    """Whether a process, as :func:`this_process` states one, has ended. One of another machine never counts as that."""
    if not owner:
        return True
    if owner.get("host") != socket.gethostname() or os.name == "nt":
        return False
    try:
        os.kill(int(owner["pid"]), 0)
    except (ProcessLookupError, KeyError, TypeError, ValueError):
        return True
    except PermissionError:
        pass  # it runs, and is another user's
    return owner.get("started") != _started(int(owner["pid"]))


def _started(pid: int) -> str | None:
    """When a process was started, counted from a start of the machine; None where the system does not tell."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return f"{boot}:{fields[19]}"


def _in_use(path: Path, owner: dict[str, Any]) -> SegError:
    who = f"process {owner.get('pid')} on {owner.get('host')}" if owner else "another process"
    return fail(
        "run-in-use",
        f"{who} works in the run folder `{path.parent}`",
        f"wait for its end, or name another folder with `--out`; if there is no such process, delete `{path}`",
        path=str(path.parent),
    )
