"""Two runs never work in one folder, and what is dead keeps nobody out."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from segdsl.run.folder import lock
from segdsl.run.folder.layout import RunFolder
from segdsl.run.folder.lock import LOCK_FILE, describe_process, is_process_gone, lock_run_folder
from segdsl.run.train import train_file

Slugs = Callable[[Callable[[], object]], list[str]]
HOW = ["with", "without"]
"""With the locks of the system, and without."""


@contextmanager
def holder(folder: Path, how: str) -> Iterator[Callable[[], None]]:
    """Another process that works in a folder; gives what kills it."""
    heard, begun = os.pipe()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            if how == "without":
                lock.fcntl = None
            with lock_run_folder(RunFolder(folder)):
                os.write(begun, b"x")
                time.sleep(600)
        os._exit(1)
    os.close(begun)
    living = [child]

    def kill() -> None:
        while living:
            os.kill(child, signal.SIGKILL)
            os.waitpid(living.pop(), 0)

    try:
        assert os.read(heard, 1) == b"x"
        yield kill
    finally:
        kill()
        os.close(heard)


@pytest.fixture(params=HOW)
def how(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "without":
        monkeypatch.setattr(lock, "fcntl", None)
    return request.param


def hold(folder: Path) -> None:
    with lock_run_folder(RunFolder(folder)):
        assert json.loads((folder / LOCK_FILE).read_text(encoding="utf-8"))["pid"] == os.getpid()


def test_a_folder_is_one_process_s_until_it_dies(tmp_path: Path, how: str, slugs: Slugs) -> None:
    with holder(tmp_path, how) as kill:
        assert slugs(lambda: hold(tmp_path)) == ["run-in-use"]
        kill()
        assert (tmp_path / LOCK_FILE).exists()
        hold(tmp_path)
    assert not (tmp_path / LOCK_FILE).exists()
    hold(tmp_path)


def test_a_process_that_it_forked_does_not_keep_it(tmp_path: Path) -> None:
    """As a loading process may, for a moment, outlive a run that was killed."""
    ready, begun = os.pipe()
    over, end = os.pipe()
    with lock_run_folder(RunFolder(tmp_path)):
        child = os.fork()
        if child == 0:
            os.close(end)
            os.write(begun, b"x")
            os.read(over, 1)
            os._exit(0)
        os.read(ready, 1)
        (tmp_path / LOCK_FILE).rename(tmp_path / "kept")  # so that it is the lock that is tried, and not the name
    (tmp_path / "kept").rename(tmp_path / LOCK_FILE)
    try:
        hold(tmp_path)
    finally:
        os.close(end)
        os.waitpid(child, 0)
        for handle in (ready, begun, over):
            os.close(handle)


def test_another_process_of_the_same_number_is_no_owner() -> None:
    owner = describe_process()
    assert not is_process_gone(owner)
    assert is_process_gone({**owner, "started": "a-boot-before:12"})
    assert is_process_gone({"host": socket.gethostname(), "pid": 2**22 + 1, "started": None})
    assert is_process_gone({})
    assert not is_process_gone({**owner, "host": "elsewhere", "started": "a-boot-before:12"})


def test_a_file_that_was_removed_is_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One process waits for the lock while another, which holds it, removes the file."""
    held, tries = lock._try_flock, []

    def locked(handle: int) -> bool | None:
        if not tries:
            (tmp_path / LOCK_FILE).unlink()
        tries.append(handle)
        return held(handle)

    monkeypatch.setattr(lock, "_try_flock", locked)
    hold(tmp_path)
    assert len(tries) == 2


def test_two_that_find_it_free_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slugs: Slugs) -> None:
    """Where the file system has no locks, the one that has written itself down last has the folder."""
    monkeypatch.setattr(lock, "fcntl", None)
    other = json.dumps({**describe_process(), "pid": 1})
    with monkeypatch.context() as patch:
        patch.setattr(lock.time, "sleep", lambda seconds: (tmp_path / LOCK_FILE).write_text(other, encoding="utf-8"))
        assert slugs(lambda: hold(tmp_path)) == ["run-in-use"]
    assert (tmp_path / LOCK_FILE).read_text(encoding="utf-8") == other


def test_another_name_of_the_folder_is_no_way_in(tmp_path: Path, slugs: Slugs) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "link").symlink_to("run")
    with holder(tmp_path / "run", "with"):
        for other in (tmp_path / "link", tmp_path / "run" / ".." / "run"):
            assert slugs(lambda path=other: hold(path)) == ["run-in-use"]


def test_a_second_run_in_the_same_folder_is_refused(project: Path, slugs: Slugs) -> None:
    train_file("tiny.seg", ["train.epochs=1"], out="mine", quiet=True)
    before = (project / "mine/metrics.csv").read_bytes()
    with holder(project / "mine", "with"):
        assert slugs(lambda: train_file("mine", ["train.epochs=2"], quiet=True, resume=True)) == ["run-in-use"]
    assert (project / "mine/metrics.csv").read_bytes() == before
    Path("new").mkdir()
    with holder(project / "new", "with"):
        assert slugs(lambda: train_file("tiny.seg", out="new", quiet=True, resume=True)) == ["run-in-use"]
    assert train_file("tiny.seg", ["train.epochs=1"], out="new", quiet=True, resume=True).epochs == 1
