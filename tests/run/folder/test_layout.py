"""What is taken for a run folder, what is left alone, and where a run finds its data from there."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from segdsl.run.folder.checkpoint import open_run
from segdsl.run.train import train_file
from segdsl.storage import atomic

Slugs = Callable[[Callable[[], object]], list[str]]


@pytest.fixture(autouse=True)
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segdsl.run.train.write_final_report", lambda *_: None)


def content(folder: str) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def test_a_program_of_that_name_is_no_run(project: Path, slugs: Slugs) -> None:
    """Nobody's text is written over, and its comments lost, because it is called `program.seg`."""
    Path("own").mkdir()
    text = Path("tiny.seg").read_text(encoding="utf-8").replace('"set"', '"../set"')
    Path("own/program.seg").write_text(text, encoding="utf-8")
    before = content("own")
    assert slugs(lambda: train_file("own/program.seg", resume=True, quiet=True)) == ["resume-without-out"]
    assert slugs(lambda: train_file("own", resume=True, quiet=True)) == ["out-taken"]
    assert slugs(lambda: train_file("tiny.seg", out="own", resume=True, quiet=True)) == ["out-taken"]
    assert slugs(lambda: train_file("set", resume=True, quiet=True)) == ["run-not-found"]
    assert content("own") == before
    assert train_file("own/program.seg", out="run", resume=True, quiet=True).epochs == 2


def test_checkpoints_of_a_run_that_is_gone_are_left_alone(project: Path, slugs: Slugs) -> None:
    train_file("tiny.seg", out="left", quiet=True)
    for path in Path("left").iterdir():
        if path.is_file():
            path.unlink()
    before = content("left")
    assert slugs(lambda: train_file("tiny.seg", out="left", resume=True, quiet=True)) == ["out-taken"]
    assert content("left") == before != {}


@pytest.mark.parametrize("linked", ["runs", "set"])
def test_data_behind_a_symbolic_link_is_found(project: Path, linked: str) -> None:
    """As folders of runs and of data often do, on another disk."""
    Path("disk/far").mkdir(parents=True)
    if linked == "set":
        Path("set").rename("disk/far/set")
    else:
        Path("disk/far/runs").mkdir()
    Path(linked).symlink_to(f"disk/far/{linked}")
    train_file("tiny.seg", out="runs/one", quiet=True)
    root = open_run("runs/one").program.data.root
    assert root is not None and (Path("runs/one") / root / "train").is_dir()
    assert root == {"runs": "../../../../set", "set": "../../set"}[linked]
    assert train_file("runs/one", ["train.epochs=3"], resume=True, quiet=True).epochs == 3
    assert open_run("runs/one").program.data.root == root


def test_the_lock_is_that_of_the_program_also_after_a_kill(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the two files that are written when a program goes on with another setting."""
    train_file("tiny.seg", out="left", quiet=True)
    before = content("left")
    write = atomic.write_text_atomically

    def killed(path: Path, text: str) -> None:
        if path.name == "program.seg":
            raise KeyboardInterrupt
        write(path, text)

    with monkeypatch.context() as patch:
        for name in ("resume", "layout"):
            patch.setattr(f"segdsl.run.folder.{name}.write_text_atomically", killed)
        with pytest.raises(KeyboardInterrupt):
            train_file("left", ["train.epochs=3"], resume=True, quiet=True)
    assert content("left")[Path("left/lock.json")] != before[Path("left/lock.json")]
    train_file("left", resume=True, quiet=True)
    for name in ("lock.json", "program.seg"):
        assert content("left")[Path("left", name)] == before[Path("left", name)]


def test_a_note_tells_of_another_machine(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Once, when the run gets there."""
    train_file("tiny.seg", out="left", quiet=True, device="cpu")
    machine = json.loads(Path("left/machine.json").read_text(encoding="utf-8"))
    here = machine["threads"]
    machine.update(cpu="another-processor", threads=here + 1)
    Path("left/machine.json").write_text(json.dumps(machine), encoding="utf-8")
    said = []
    for epochs in (3, 4):
        train_file("left", [f"train.epochs={epochs}"], resume=True, device="cpu")
        said.append(" ".join(capsys.readouterr().out.split()))
    assert "from another-processor to" in said[0] and f"from {here + 1} to {here}" in said[0]
    assert "threads" in said[0] and "threads" not in said[1]


def test_the_names_of_new_folders_are_brought_to_the_disk(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut may take each name that was not."""
    synced: set[str] = set()
    fsync = os.fsync

    def see(handle: int) -> None:
        synced.add(os.path.relpath(Path(f"/proc/self/fd/{handle}").readlink(), project))
        fsync(handle)

    if not Path("/proc/self/fd").exists():
        pytest.skip("this file system has no /proc")
    with monkeypatch.context() as patch:
        patch.setattr("segdsl.storage.atomic.os.fsync", see)
        patch.setattr("segdsl.run.train.write_run_start", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train_file("tiny.seg", out="new/deep/left", quiet=True)
    assert {".", "new", "new/deep", "new/deep/left"} <= synced
