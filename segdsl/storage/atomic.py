"""Atomic writes: a file is either complete or absent, even after a power failure.

Content goes to a draft first: a new file with a random name in the same folder, since a rename is atomic only within
one file system. Nobody can plant a link in its place, and one at the final name is replaced, not followed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import signal
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Suffix of an incomplete file. Its name also begins with a dot, so that listings and globs of the folder skip it.
DRAFT_SUFFIX = ".part"
# Characters of the final name in a draft's name; file systems allow 255 bytes.
MAX_NAME_LENGTH = 50
# Errors of file systems that cannot sync a folder (network shares, FUSE). There the rename is as durable as it gets.
FSYNC_UNSUPPORTED = {errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EPERM, errno.EISDIR, errno.EBADF}
KILL_SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]

_open_drafts: set[Path] = set()


@contextmanager
def replace_atomically(path: Path, previous: Path | None = None, *, is_durable: bool = True) -> Iterator[Path]:
    """Yield the path of an empty draft file, and replace ``path`` by it when the block ends.

    The new file has the permissions of the old one, or of an ordinary new file. If ``previous`` is passed, the old file
    is renamed to it instead of being overwritten. If ``is_durable``, both content and name are on the disk when the
    context manager returns. Raises OSError; in that case the draft is removed and ``path`` is unchanged.
    """
    with _open_draft(path) as draft:
        mode = _read_mode(draft)
        yield draft
        _finish_draft(draft, _read_mode(path) or mode, is_durable)
        aside = previous if previous is not None and path.exists() else None
        if aside is not None:
            path.replace(aside)
        try:
            draft.replace(path)
        except OSError:
            if aside is not None:
                aside.replace(path)
            raise
        if is_durable:
            sync_folder(path.parent)


def write_text_atomically(path: Path, text: str) -> None:
    """Write a text file atomically and durably, encoded as UTF-8, into an existing folder. Raises OSError."""
    with replace_atomically(path) as draft:
        draft.write_bytes(text.encode())


def write_atomically(path: Path, content: bytes | memoryview) -> None:
    """Write a file atomically, and create its folders. Raises OSError.

    For results that can be computed again: a power failure may lose the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replace_atomically(path, is_durable=False) as draft:
        draft.write_bytes(content)


def create_atomically(path: Path, content: bytes) -> None:
    """Write a file that must not exist yet, and create its folders. Raises FileExistsError and other OSErrors."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _open_draft(path) as draft:
        draft.write_bytes(content)
        _finish_draft(draft, None, is_durable=True)
        try:
            os.link(draft, path)
        except FileExistsError:
            raise
        except OSError:
            # The file system has no hard links: an empty file reserves the name until the rename.
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
            draft.replace(path)


@contextmanager
def _open_draft(path: Path) -> Iterator[Path]:
    with remove_afterwards(_create_draft(path)) as draft:
        yield draft


def _create_draft(path: Path) -> Path:
    """Create an empty file beside ``path`` with a name that nobody can guess."""
    # A new file gets the permissions that the system gives to any; what replaces a private one is private from the
    # start. O_EXCL follows no link.
    mode = 0o666 if _read_mode(path) is None else 0o600
    while True:
        draft = path.parent / f".{path.name[:MAX_NAME_LENGTH]}.{secrets.token_hex(8)}{DRAFT_SUFFIX}"
        with contextlib.suppress(FileExistsError):
            os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode))
            return draft


def _read_mode(path: Path) -> int | None:
    """Return the permissions of a regular file, None if there is none at ``path``."""
    try:
        mode = path.lstat().st_mode
    except OSError:
        return None
    return stat.S_IMODE(mode) if stat.S_ISREG(mode) else None


def _finish_draft(draft: Path, mode: int | None, is_durable: bool) -> None:
    """Sync the content of a draft and give it its permissions, which a library that replaced the draft may not know."""
    if is_durable:
        # Before the rename: one that reaches the disk before the data would leave an empty file after a power failure.
        sync_file(draft)
    if mode is not None:
        draft.chmod(mode)


@contextmanager
def remove_afterwards(draft: Path) -> Iterator[Path]:
    """Remove a draft when the block ends, or when the process is terminated."""
    _open_drafts.add(draft)
    # Handlers that others have set raise an exception, and the block ends.
    is_main = threading.current_thread() is threading.main_thread()
    numbers = [n for n in KILL_SIGNALS if is_main and signal.getsignal(n) is signal.SIG_DFL]
    for number in numbers:
        signal.signal(number, _die_without_drafts)
    try:
        yield draft
    finally:
        _remove_draft(draft)
        _open_drafts.discard(draft)
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


def _die_without_drafts(number: int, frame: Any) -> None:
    for draft in _open_drafts:
        _remove_draft(draft)
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _remove_draft(draft: Path) -> None:
    if draft.is_dir():
        shutil.rmtree(draft, ignore_errors=True)
    with contextlib.suppress(OSError):
        draft.unlink()


if hasattr(os, "register_at_fork"):
    # A child that is killed must not remove the drafts of its parent.
    os.register_at_fork(after_in_child=_open_drafts.clear)


def sync_file(path: Path) -> None:
    """Flush the content of a file to the disk. Raises OSError."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk, if the file system supports it. Raises OSError."""
    # Windows cannot open a folder as a file; NTFS writes renames to its journal by itself.
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in FSYNC_UNSUPPORTED:
            raise
    finally:
        os.close(handle)


def remove_drafts(folder: Path) -> None:
    """Remove the drafts that a killed process left in a folder. No other process may be writing there."""
    for draft in folder.glob(f".*{DRAFT_SUFFIX}"):
        with contextlib.suppress(OSError):
            draft.unlink()
