"""Atomic file writes: a file is either complete or absent, even after a power failure."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Suffix of an incomplete file. Its name also begins with a dot, so that listings and globs of the folder skip it.
DRAFT_SUFFIX = ".part"
# Errors of file systems that cannot sync a folder (network shares, FUSE). There the rename is as durable as it gets.
FSYNC_UNSUPPORTED = {errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EPERM, errno.EISDIR, errno.EBADF}


@contextmanager
def replace_atomically(path: Path, previous: Path | None = None) -> Iterator[Path]:
    """Yield the path of an empty draft file, and replace ``path`` by it when the block ends.

    The new file has the permissions of an ordinary new file. If ``previous`` is passed, the old file is renamed to it
    instead of being overwritten. When the context manager returns, both content and name are on the disk. Raises
    OSError; in that case the draft is removed and ``path`` is unchanged.
    """
    # The draft is in the same folder, because a rename is atomic only within one file system.
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=DRAFT_SUFFIX)
    os.close(handle)
    draft = Path(name)
    try:
        yield draft
        # Content first: a rename that reaches the disk before the data would leave an empty file after a power failure.
        with open(draft, "rb+") as file:
            os.fsync(file.fileno())
        # mkstemp creates files with mode 0600. The only way to read the umask is to set it.
        mask = os.umask(0)
        os.umask(mask)
        draft.chmod(0o666 & ~mask)
        aside = previous if previous is not None and path.exists() else None
        if aside is not None:
            path.replace(aside)
        try:
            draft.replace(path)
        except OSError:
            if aside is not None:
                aside.replace(path)
            raise
        sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()


def write_text_atomically(path: Path, text: str) -> None:
    """Write a text file atomically, encoded as UTF-8. Raises OSError."""
    with replace_atomically(path) as draft:
        draft.write_text(text, encoding="utf-8")


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
