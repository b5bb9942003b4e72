"""Facts about dataset files, cached between runs in SQLite and valid while a file's size and times stay the same.

There is one database per dataset root under `$SEGDSL_CACHE`, else `$XDG_CACHE_HOME/segdsl`, else `~/.cache/segdsl`. The
cache never changes a result, so every error of the database or the disk is ignored.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from segdsl.storage.cache import get_cache_folder
from segdsl.storage.file_states import combine_change_times
from segdsl.text.json import parse_json

VERSION = 5
"""Increment whenever a fact is computed differently, so that older databases are not read."""
NAMES_PER_QUERY = 500
"""Names in one query; SQLite before 3.32 allows 999 parameters."""


def read_stamp(path: Path) -> tuple[int, int] | None:
    """Return size and change time (:func:`combine_change_times`) of a file, or None if it does not exist."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, combine_change_times(status)


class FactCache:
    """Facts of files by name, valid while :func:`read_stamp` is unchanged. A context manager, for one thread."""

    # Without a connection (no folder, no permission, a damaged file) every lookup misses and nothing is stored.

    def __init__(self, root: Path) -> None:
        name = hashlib.blake2b(os.fsencode(root.resolve()), digest_size=12).hexdigest()
        self._connection: sqlite3.Connection | None = None
        with contextlib.suppress(OSError, sqlite3.Error, RuntimeError):
            folder = get_cache_folder() / "data"
            folder.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(folder / f"{name}-{VERSION}.sqlite", timeout=5)
            # With a write-ahead log, two runs on the same dataset do not block each other.
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, size INTEGER, changed INTEGER, value TEXT)"
            )
            self._connection = connection

    def __enter__(self) -> FactCache:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.commit()
                self._connection.close()
            self._connection = None

    def get(self, name: str, stamp: tuple[int, int]) -> Any:
        """Return the JSON value stored for ``name`` with this stamp, or None."""
        return self.get_all([name], [stamp])[0]

    def get_all(self, names: Sequence[str], stamps: Sequence[Sequence[int]]) -> list[Any]:
        """Return the result of :meth:`get` for each name and stamp, with few queries."""
        cached: dict[str, tuple[int, int, str]] = {}
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                for start in range(0, len(names), NAMES_PER_QUERY):
                    batch = names[start : start + NAMES_PER_QUERY]
                    marks = ",".join("?" * len(batch))
                    rows = self._connection.execute(
                        f"SELECT name, size, changed, value FROM facts WHERE name IN ({marks})", batch
                    )
                    cached.update((name, (size, changed, value)) for name, size, changed, value in rows)
        return [
            _decode_value(cached.get(name), size, changed) for name, (size, changed) in zip(names, stamps, strict=True)
        ]

    def put(self, name: str, stamp: tuple[int, int], value: Any) -> None:
        """Store a JSON value for ``name``."""
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                row = (name, stamp[0], stamp[1], json.dumps(value))
                self._connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?, ?, ?)", row)


def _decode_value(row: tuple[int, int, str] | None, size: int, change_time: int) -> Any:
    try:
        return parse_json(row[2]) if row and row[0] == size and row[1] == change_time else None
    except ValueError:
        return None
