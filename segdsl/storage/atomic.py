"""Files that are there whole or not at all, also after the power was cut."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DRAFT = ".part"
"""The end of the name of a file that is not complete yet; it begins with a dot."""
NO_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EPERM, errno.EISDIR, errno.EBADF}
"""What file systems say that have no way to write down a folder."""


@contextmanager
def replacing(path: Path, previous: Path | None = None) -> Iterator[Path]:
    """Gives the name of a draft, an empty file. Once it is filled it takes the place of ``path``, with the permissions
    of a new file; the file that was there becomes ``previous`` where that is given.

    The content is on the disk before the name is, and the name is before this returns. Raises OSError; the draft is
    gone then, and ``path`` is as it was.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=DRAFT)
    os.close(handle)
    draft = Path(name)
    try:
        yield draft
        with open(draft, "rb+") as file:
            os.fsync(file.fileno())
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


def write_text(path: Path, text: str) -> None:
    """Writes a text, whole or not at all. Raises OSError."""
    with replacing(path) as draft:
        draft.write_text(text, encoding="utf-8")


def sync_folder(folder: Path) -> None:
    """Brings the names in a folder to the disk, where the system knows how. Raises OSError."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in NO_SYNC:
            raise
    finally:
        os.close(handle)


def remove_drafts(folder: Path) -> None:
    """Removes what a kill left of files that were being written. Nobody else may write there meanwhile."""
    for draft in folder.glob(f".*{DRAFT}"):
        with contextlib.suppress(OSError):
            draft.unlink()
