"""Locks between processes, on file systems with and without locks."""

from __future__ import annotations

import errno
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from segdsl.storage.lock import LockHeldError, hold_lock


@pytest.fixture(params=["with", "without"])
def path(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of a lock, on a file system with locks and on one without."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOTSUP, "not supported")

    if request.param == "without":
        monkeypatch.setattr(FileLock, "acquire", refuse)
    return tmp_path / "lock"


def test_a_lock_is_one_process_s_until_it_dies(path: Path, fork_inside: Any) -> None:
    with fork_inside(lambda: hold_lock(path)) as end:
        with pytest.raises(LockHeldError) as caught, hold_lock(path):
            pass
        pid, host = path.read_text().strip("[]").replace(",", "").split()[:2]
        assert pid in str(caught.value) and host.strip('"') in str(caught.value) and pid != str(os.getpid())
        end(signal.SIGKILL)
        assert path.exists()
        with hold_lock(path):
            assert path.exists()
    assert not path.exists()


def test_one_that_waits_gets_the_lock(path: Path, fork_inside: Any) -> None:
    with fork_inside(lambda: hold_lock(path)) as end:
        waits: list[str] = []

        def notice() -> None:
            waits.append("waits")
            threading.Timer(0.2, end, [signal.SIGKILL]).start()

        with hold_lock(path, notice):
            assert waits == ["waits"]


def test_a_file_that_was_removed_is_no_lock(path: Path) -> None:
    with hold_lock(path):
        path.unlink()
        with hold_lock(path):
            assert path.exists()


def test_a_planted_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("old")
    (tmp_path / "lock").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError), hold_lock(tmp_path / "lock"):
        pass
    assert (tmp_path / "victim").read_text() == "old"


def test_a_forked_child_does_not_keep_the_lock(tmp_path: Path) -> None:
    """As a loader worker may outlive a killed run for a moment."""
    ready, begun = os.pipe()
    over, end = os.pipe()
    with hold_lock(tmp_path / "lock"):
        child = os.fork()
        if child == 0:
            os.close(end)
            os.write(begun, b"x")
            os.read(over, 1)
            os._exit(0)
        os.read(ready, 1)
        # Kept under another name, so that the lock is tested and not the file.
        (tmp_path / "lock").rename(tmp_path / "kept")
    (tmp_path / "kept").rename(tmp_path / "lock")
    try:
        with hold_lock(tmp_path / "lock"):
            pass
    finally:
        os.close(end)
        os.waitpid(child, 0)
        for handle in (ready, begun, over):
            os.close(handle)
