"""A disk that will not hold a run is found before its first step."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest

from segdsl.diagnostics import SegError
from segdsl.run.engine import loop
from segdsl.run.engine.setup import compile_start_model, prepare_run
from segdsl.run.folder import write_probe
from segdsl.run.folder.layout import RunFolder
from segdsl.run.program_data import resolve_classes
from segdsl.run.session import build_checkpoint_writer, build_start_state
from segdsl.run.train import train_file

Slugs = Callable[[Callable[[], object]], list[str]]
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def no_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step is a failure."""

    def step(*_: object) -> None:
        raise AssertionError("a step was made")

    monkeypatch.setattr(loop, "train_epoch", step)


def test_a_disk_without_room_for_the_checkpoints(
    project: Path, slugs: Slugs, no_step: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = prepare_run(compile_start_model(resolve_classes("tiny.seg")))
    state = build_start_state(setup)
    weights = write_probe.count_bytes(state.collect_weights())
    parameters = sum(p.numel() * 4 for p in setup.model.parameters())
    count = len(list(setup.model.parameters()))
    whole = weights + 2 * parameters + 4 * count  # Adam keeps two tensors and a counter for each parameter
    needed = 2 * weights + 2 * whole + whole  # best and last, two states, and one while it is written
    for free, fits in ((needed - 1, False), (needed, True)):
        monkeypatch.setattr(write_probe.shutil, "disk_usage", lambda path, free=free: Usage(free, 0, free))
        folder = RunFolder(project / f"run-{free}")
        folder.checkpoints.mkdir(parents=True)
        writer = build_checkpoint_writer(setup, folder)
        if fits:
            write_probe.probe_writing(folder, writer, state)
        else:
            assert slugs(lambda folder=folder, writer=writer: write_probe.probe_writing(folder, writer, state)) == [
                "disk-too-full"
            ]
        assert [p for p in folder.root.rglob("*") if p.is_file()] == []
    assert not setup.optimizer.state and all(p.grad is None for p in setup.model.parameters())


def test_a_folder_that_takes_no_checkpoint(project: Path, no_step: None, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[set[str]] = []

    def refused(tensors: dict, name: Path, metadata: dict) -> None:
        written.append({key.partition(":")[0] for key in tensors})
        if len(written) == 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("segdsl.weights.files.save_file", refused)
    with pytest.raises(SegError) as caught:
        train_file("tiny.seg", out="full", quiet=True)
    assert [d.slug for d in caught.value.diagnostics] == ["checkpoint-not-written"]
    assert {"model", "exp_avg", "exp_avg_sq", "step"} <= written[1]


def test_a_log_that_cannot_be_written(
    project: Path, slugs: Slugs, no_step: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: object, cells: list[str], mode: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("segdsl.run.folder.log.RunLog._write_row", refused)
    assert slugs(lambda: train_file("tiny.seg", out="full", quiet=True)) == ["log-not-written"]


@pytest.mark.skipif(sys.platform == "win32", reason="the file system has no limit for the size of a file")
def test_files_that_may_not_grow_end_a_run_before_it_starts(project: Path) -> None:
    text = (project / "tiny.seg").read_text(encoding="utf-8").replace("Conv(8, 3x3", "Conv(2048, 3x3")
    (project / "tiny.seg").write_text(text, encoding="utf-8")
    code = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
    code += "from segdsl.cli.invoke import run_cli; sys.exit(run_cli(['train', 'tiny.seg', '--out', 'full']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, env=os.environ)
    assert done.returncode == 1
    assert done.stderr.startswith("error[checkpoint-not-written]") and "file too large" in done.stderr
    assert "epoch 1" not in done.stdout
    assert not list((project / "full/checkpoints").iterdir())
