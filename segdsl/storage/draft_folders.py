"""Folders for files that are published together, once all of them are complete."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from segdsl.storage.atomic import remove_afterwards, sync_file
from segdsl.storage.lock import LockHeldError, hold_lock

DRAFT_FOLDER_PREFIX = ".part-"
DRAFT_LOCK = ".lock"
"""Name of the lock inside a draft folder, which its process holds as long as it lives."""


@contextmanager
def open_draft_folder(folder: Path) -> Iterator[Path]:
    """Yield a new folder inside ``folder`` for files to be published together; remove it when the block ends.

    Draft folders that killed processes left are removed first. Raises OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(f"{DRAFT_FOLDER_PREFIX}*/{DRAFT_LOCK}"):
        with contextlib.suppress(LockHeldError, OSError), hold_lock(left):
            shutil.rmtree(left.parent, ignore_errors=True)
    draft = Path(tempfile.mkdtemp(dir=folder, prefix=DRAFT_FOLDER_PREFIX))
    with remove_afterwards(draft), hold_lock(draft / DRAFT_LOCK):
        yield draft


def publish_files(draft: Path, folder: Path, names: Sequence[str]) -> None:
    """Move files from a draft folder to ``folder`` in the order of ``names``. Raises OSError."""
    for name in names:
        sync_file(draft / name)
    for name in names:
        (draft / name).replace(folder / name)


@contextmanager
def replace_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder, and replace the folder ``path`` by it when the block ends. Raises OSError.

    In that case the new folder is removed and ``path`` is unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}-"))
    with remove_afterwards(draft):
        # mkdtemp makes a private folder; this one has to be readable by other users.
        draft.chmod(0o755)
        yield draft
        if not path.exists():
            draft.rename(path)
            return
        # The old folder is only moved aside, and is restored if the new one cannot take its place.
        old = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}-old-"))
        aside = old / path.name
        try:
            path.rename(aside)
            try:
                draft.rename(path)
            except OSError:
                aside.rename(path)
                raise
        except OSError:
            # Fails, and keeps the old folder, if that could not be restored.
            with contextlib.suppress(OSError):
                old.rmdir()
            raise
        shutil.rmtree(old, ignore_errors=True)
