"""Two runs never work in one folder, and what is dead keeps nobody out."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from segdsl.diagnostics import SegError
from segdsl.run.folder.layout import RunFolder
from segdsl.run.folder.lock import LOCK_FILE, lock_run_folder
from segdsl.run.train import train_file

Slugs = Callable[[Callable[[], object]], list[str]]


@contextmanager
def holder(folder: Path) -> Iterator[Callable[[], None]]:
    """Another process that works in a folder; gives what kills it."""
    heard, begun = os.pipe()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException), lock_run_folder(RunFolder(folder)):
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


def hold(folder: Path) -> None:
    with lock_run_folder(RunFolder(folder)):
        assert json.loads((folder / LOCK_FILE).read_text(encoding="utf-8"))[0] == os.getpid()


def test_a_folder_is_one_process_s_until_it_dies(tmp_path: Path, wording: Callable[[str], None]) -> None:
    with holder(tmp_path) as kill:
        with pytest.raises(SegError) as caught:
            hold(tmp_path)
        (found,) = caught.value.diagnostics
        assert found.slug == "run-in-use"
        text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "<time>", f"{found.message}\n{found.help}")
        wording(re.sub(r"process \d+ on \S+,", "process <pid> on <host>,", text.replace(str(tmp_path), "<run>")))
        kill()
        assert (tmp_path / LOCK_FILE).exists()
        hold(tmp_path)
    assert not (tmp_path / LOCK_FILE).exists()
    hold(tmp_path)


def test_another_name_of_the_folder_is_no_way_in(tmp_path: Path, slugs: Slugs) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "link").symlink_to("run")
    with holder(tmp_path / "run"):
        for other in (tmp_path / "link", tmp_path / "run" / ".." / "run"):
            assert slugs(lambda path=other: hold(path)) == ["run-in-use"]


def test_a_second_run_in_the_same_folder_is_refused(project: Path, slugs: Slugs) -> None:
    train_file("tiny.seg", ["train.epochs=1"], out="mine", quiet=True)
    before = (project / "mine/metrics.csv").read_bytes()
    with holder(project / "mine"):
        assert slugs(lambda: train_file("mine", ["train.epochs=2"], quiet=True, resume=True)) == ["run-in-use"]
    assert (project / "mine/metrics.csv").read_bytes() == before
    Path("new").mkdir()
    with holder(project / "new"):
        assert slugs(lambda: train_file("tiny.seg", out="new", quiet=True, resume=True)) == ["run-in-use"]
    assert train_file("tiny.seg", ["train.epochs=1"], out="new", quiet=True, resume=True).epochs == 1
