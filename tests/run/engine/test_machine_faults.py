"""Faults of disk, data, memory and processes in the middle of a run: each is said, and the last checkpoint is whole."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from segdsl.diagnostics import SegError
from segdsl.run.console.display import Display, StepFacts
from segdsl.run.engine import loop
from segdsl.run.folder.layout import RunFolder
from segdsl.run.folder.recovery import find_newest_state
from segdsl.run.train import RunResult, train_file
from segdsl.storage import atomic

GoesOn = Callable[[str], None]
OVERRIDES = ["train.epochs=4", "train.keep=Checkpoints(best=2, every=1 iters)", "data.cache=0 GiB"]


@pytest.fixture(autouse=True)
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segdsl.run.train.write_final_report", lambda *_: None)


@contextmanager
def after(monkeypatch: pytest.MonkeyPatch, step: int, happens: Callable[[], object]) -> Iterator[None]:
    """While something happens once, after a step of the run and before it is saved."""
    shown, left = Display.show_step, [step]

    def see(self: Display, facts: StepFacts) -> None:
        left[0] -= 1
        if left[0] == 0:
            happens()
        shown(self, facts)

    with monkeypatch.context() as patch:
        patch.setattr(Display, "show_step", see)
        yield


def ends(out: str, *overrides: str) -> SegError:
    """The error that a run ends in."""
    with pytest.raises(SegError) as caught:
        train_file("tiny.seg", [*OVERRIDES, *overrides], out=out, quiet=True)
    assert all(d.message and d.help for d in caught.value.diagnostics)
    return caught.value


def is_whole(out: str) -> int:
    """The step of the state that a run would go on from, which is not a damaged one's stand-in."""
    found = find_newest_state(RunFolder(Path(out)))
    assert found is not None and not found.corrupt_paths
    return found.step


@pytest.fixture
def goes_on(same_run: Callable[[Path, Path], None], whole_run: Callable[..., RunResult]) -> GoesOn:
    """Holds that a run goes on, and ends as one in one go."""

    def go_on(out: str) -> None:
        train_file("tiny.seg", OVERRIDES, out=out, quiet=True, resume=True)
        same_run(Path(out), whole_run(OVERRIDES).run)

    return go_on


@pytest.mark.parametrize("place", ["save_file", "fsync", "replace", "log", "folder"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_disk_that_refuses(
    project: Path, monkeypatch: pytest.MonkeyPatch, goes_on: GoesOn, place: str, number: int
) -> None:
    """Whichever call it is that fails."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    targets = {
        "save_file": ("segdsl.weights.files.save_file",),
        "fsync": ("segdsl.storage.atomic.os.fsync",),
        "replace": ("segdsl.storage.atomic.Path.replace",),
        "log": ("segdsl.run.folder.log.RunLog._write_row",),
        "folder": ("segdsl.storage.atomic._create_draft",),
    }
    with monkeypatch.context() as patch, after(patch, 3, lambda: patch.setattr(*targets[place], refuse)):
        error = ends("left")
    assert error.diagnostics[0].slug == ("log-not-written" if place == "log" else "checkpoint-not-written")
    assert is_whole("left") == (4 if place == "log" else 2)
    assert not list(Path("left").rglob(f".*{atomic.DRAFT_SUFFIX}"))
    goes_on("left")


def test_curves_that_a_disk_refuses(
    project: Path, monkeypatch: pytest.MonkeyPatch, goes_on: GoesOn, capsys: pytest.CaptureFixture[str]
) -> None:
    """A thread writes them, and no traceback of it reaches anyone."""
    threads: list[object] = []
    before = threads.append

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("threading.excepthook", before)
        name = "tensorboard.summary.writer.record_writer.RecordWriter.write"
        with after(monkeypatch, 3, lambda: patch.setattr(name, refuse)):
            error = ends("left")
        assert threading.excepthook == before
    assert error.diagnostics[0].slug == "log-not-written" and "no space left" in error.diagnostics[0].message.lower()
    assert threads == [] and "Traceback" not in capsys.readouterr().err
    assert is_whole("left") == 4
    goes_on("left")


@pytest.fixture
def small_disk(project: Path) -> Iterator[Path]:
    """A file system of 2 MiB in memory."""
    place = project / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], capture_output=True).returncode:
        pytest.skip("only a root user may mount a file system here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_disk_that_fills_up(
    project: Path, monkeypatch: pytest.MonkeyPatch, goes_on: GoesOn, small_disk: Path
) -> None:
    def fill() -> None:
        with pytest.raises(OSError), open("disk/other", "wb") as file:
            while True:
                file.write(bytes(4096))
                file.flush()

    with after(monkeypatch, 3, fill):
        error = ends("disk/left")
    assert error.diagnostics[0].slug == "checkpoint-not-written"
    assert is_whole("disk/left") == 2
    Path("disk/other").unlink()
    goes_on("disk/left")


def test_a_folder_that_turns_read_only(
    project: Path, monkeypatch: pytest.MonkeyPatch, goes_on: GoesOn, small_disk: Path
) -> None:
    """It is mounted upon itself, as a file system with open files cannot be made read-only."""
    left = small_disk / "left"

    def turn() -> None:
        subprocess.run(["mount", "--bind", str(left), str(left)], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", str(left)], check=True)

    try:
        with after(monkeypatch, 3, turn):
            error = ends("disk/left")
    finally:
        subprocess.run(["umount", "-l", str(left)], check=True)
    assert error.diagnostics[0].slug == "checkpoint-not-written"
    assert "read-only file system" in error.diagnostics[0].message
    assert is_whole("disk/left") == 2
    goes_on("disk/left")


def paint(path: Path) -> None:
    pixels = np.array(Image.open(path))
    pixels[3] = pixels[2]
    Image.fromarray(pixels).save(path)
    os.utime(path, ns=(1, 1))


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "vanishes": (Path.unlink, "data-file-missing"),
    "changes": (paint, "data-file-changed"),
    "is emptied": (lambda path: path.write_bytes(b""), "data-file-empty"),
}
QUICK = [("images", "vanishes", 0), ("images", "changes", 1), ("masks", "is emptied", 0), ("masks", "vanishes", 1)]


@pytest.mark.parametrize(
    ("kind", "fault", "workers"),
    [
        pytest.param(*case, marks=() if case in QUICK else pytest.mark.slow)
        for case in itertools.product(("images", "masks"), FAULTS, (0, 1))
    ],
)
def test_a_file_of_the_dataset(
    project: Path, monkeypatch: pytest.MonkeyPatch, goes_on: GoesOn, kind: str, fault: str, workers: int
) -> None:
    happens, slug = FAULTS[fault]
    files = [project / f"set/train/{kind}/1-{number}.png" for number in range(8)]
    kept = [(path, path.read_bytes(), path.stat()) for path in files]
    with after(monkeypatch, 3, lambda: [happens(path) for path in files]):
        (found, *_) = ends("left", f"data.train.workers={workers}").diagnostics
    assert found.slug == slug and Path(found.path or "").resolve() in files
    assert is_whole("left") >= 3
    for path, content, status in kept:
        path.write_bytes(content)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    goes_on("left")


def test_a_killed_worker(project: Path, monkeypatch: pytest.MonkeyPatch, goes_on: GoesOn) -> None:
    """It is found between two steps, never in one: the weights are those of a whole number of steps."""
    import multiprocessing

    def kill() -> None:
        for child in multiprocessing.active_children():
            os.kill(child.pid or 0, signal.SIGKILL)

    with after(monkeypatch, 3, kill):
        error = ends("left", "data.train.workers=1", "data.val.workers=1")
    assert error.diagnostics[0].slug == "worker-died"
    assert is_whole("left") >= 3
    goes_on("left")


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("out of memory"), "can't allocate memory"])
def test_memory_that_runs_out(
    project: Path, monkeypatch: pytest.MonkeyPatch, goes_on: GoesOn, error: Exception | str
) -> None:
    """In the middle of a step: the state of that is nowhere."""
    made = loop.make_step

    def make(*given: object) -> float:
        if given[1].progress.step == 3:  # type: ignore[attr-defined]
            raise error if isinstance(error, Exception) else RuntimeError(error)
        return made(*given)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(loop, "make_step", make)
        assert ends("left").diagnostics[0].slug == "out-of-memory"
    assert is_whole("left") == 3
    goes_on("left")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the file system of Linux says how much memory a process has")
def test_memory_that_the_system_refuses(project: Path, goes_on: GoesOn) -> None:
    code = """import resource, sys
from segdsl.cli.invoke import run_cli
from segdsl.run.engine import loop
made = loop.make_step
def make(setup, state, *rest):
    if state.progress.step == 2:
        pages = int(open("/proc/self/statm").read().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize(), -1))
        loop.torch.zeros(1 << 28)
    return made(setup, state, *rest)
loop.make_step = make
sys.exit(run_cli(["train", "tiny.seg", "--out", "left"] + sys.argv[1:]))
"""
    args = [part for text in OVERRIDES for part in ("--set", text)]
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, timeout=300)
    assert done.returncode == 1 and done.stderr.startswith("error[out-of-memory]"), done.stderr
    assert "segdsl train left --resume" in " ".join(done.stdout.split())
    assert is_whole("left") == 2
    goes_on("left")


def test_no_note_on_resuming_without_a_state(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(loop, "train_epoch", lambda *_: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(SegError):
        train_file("tiny.seg", out="left")
    assert "--resume" not in capsys.readouterr().out
    shutil.rmtree("left")
