"""Checkpoints are whole at every moment, and the right ones stay."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import nn

from segdsl.diagnostics import SegError
from segdsl.ir.values import Quantity
from segdsl.run.engine.state import RunProgress, TrainState
from segdsl.run.folder import checkpoint
from segdsl.run.folder.checkpoint import CheckpointWriter, write_checkpoint
from segdsl.run.folder.layout import RunFolder
from segdsl.run.folder.log import EpochRow
from segdsl.scores.confusion import Confusion
from segdsl.words.checkpoint_policies import Checkpoints
from segdsl.words.schedules import Horizon

Slugs = Callable[[Callable[[], object]], list[str]]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slugs: Slugs) -> None:
    path = tmp_path / "last.safetensors"
    write_checkpoint(path, {"a": torch.ones(3)}, {"epoch": "1"})
    before = path.read_bytes()

    def half(tensors: dict, name: Path, metadata: dict) -> None:
        Path(name).write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("segdsl.weights.files.save_file", half)
    assert slugs(lambda: write_checkpoint(path, {"a": torch.zeros(3)}, {})) == ["checkpoint-not-written"]
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["last.safetensors"]


def test_a_kill_between_writing_and_renaming_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last.safetensors"
    write_checkpoint(path, {"a": torch.ones(3)}, {"epoch": "1"})
    before = path.read_bytes()

    def killed(self: Path, target: Path) -> None:
        assert Path(target).read_bytes() == before
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_checkpoint(path, {"a": torch.zeros(3)}, {})
    assert path.read_bytes() == before


def test_a_name_that_cannot_be_taken_leaves_both_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, previous = tmp_path / "state.safetensors", tmp_path / "state-previous.safetensors"
    write_checkpoint(path, {"a": torch.ones(3)}, {})
    before, replace = path.read_bytes(), Path.replace

    def refuse(self: Path, target: Path) -> Path:
        if self.name.endswith(".part"):
            raise OSError(5, "Input/output error")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(SegError):
        write_checkpoint(path, {"a": torch.zeros(3)}, {}, previous)
    assert path.read_bytes() == before and not previous.exists()


@pytest.mark.parametrize("best", [1, 2, 3])
def test_the_best_stay_in_order(tmp_path: Path, best: int) -> None:
    folder = RunFolder(tmp_path)
    folder.checkpoints.mkdir()
    model = nn.Linear(1, 1)
    state = TrainState(
        model, torch.optim.SGD(model.parameters()), None, torch.amp.GradScaler(enabled=False), RunProgress()
    )
    writer = CheckpointWriter(folder, Checkpoints(best=best, last=False), {})
    values = [float("nan"), 0.2, 0.5, 0.4, 0.5, 0.1, 0.7]
    improved = []
    for epoch, value in enumerate(values, start=1):
        nn.init.constant_(model.weight, epoch)
        state.progress.end_epoch(value)
        row = EpochRow(epoch, epoch, 0.0, 0.0, 0.0, 0.0, Confusion(("a", "b"), 255), 0.0)
        improved.append(writer.save_epoch(state, row))
    assert improved == [True, True, True, False, False, False, True]
    expected = [7, 3, 5][:best]
    for rank, epoch in enumerate(expected):
        with safe_open(writer.get_best_path(rank), framework="pt") as file:
            assert file.metadata()["epoch"] == str(epoch)
            assert file.get_tensor("weight").item() == epoch
    assert len(list(folder.checkpoints.iterdir())) == best


def test_an_epoch_that_found_the_background_alone_is_never_starred(tmp_path: Path) -> None:
    """Where the foreground has 5 % of the pixels, predicting none of it scores well."""
    folder = RunFolder(tmp_path)
    folder.checkpoints.mkdir()
    model = nn.Linear(1, 1)
    state = TrainState(
        model, torch.optim.SGD(model.parameters()), None, torch.amp.GradScaler(enabled=False), RunProgress()
    )
    writer = CheckpointWriter(folder, Checkpoints(last=False), {})
    nothing, something = [[95, 0], [5, 0]], [[80, 15], [2, 3]]
    starred = []
    for epoch, (counts, score) in enumerate([(nothing, 0.49), (something, 0.42), (nothing, 0.49)], start=1):
        confusion = Confusion(("ground", "thing"), 255)
        confusion.counts[:] = counts
        state.progress.end_epoch(score)
        starred.append(writer.save_epoch(state, EpochRow(epoch, epoch, 0.0, 0.0, 0.0, 0.0, confusion, 0.0)))
    assert starred == [False, True, False]
    assert [entry.epoch for entry in writer.best_epochs] == [2]
    assert writer.rows["best"].epoch == 2


def test_the_state_is_written_before_the_best_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where that is written less often than an epoch ends."""
    folder = RunFolder(tmp_path)
    folder.checkpoints.mkdir()
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters())
    state = TrainState(model, optimizer, None, torch.amp.GradScaler(enabled=False), RunProgress())
    writer = CheckpointWriter(folder, Checkpoints(last=False, every=Quantity(9, "epochs")), {})
    whole: list[tuple[str, bool]] = []
    write = checkpoint.write_checkpoint

    def see(path: Path, *given: Any) -> None:
        write(path, *given)
        whole.append((path.name, folder.state.is_file()))

    monkeypatch.setattr(checkpoint, "write_checkpoint", see)
    for epoch in (1, 2):
        state.progress.end_epoch(0.1 * epoch)
        writer.save_epoch(state, EpochRow(epoch, epoch, 0.0, 0.0, 0.0, 0.0, Confusion(("a", "b"), 255), 0.0))
    assert whole == [("state.safetensors", True), ("best.safetensors", True), ("best.safetensors", True)]


@pytest.mark.parametrize(
    ("every", "due"),
    [
        (None, []),
        (Quantity(3, "iters"), [3, 6, 9, 12]),
        (Quantity(0.5, "epochs"), [2, 4, 6, 8, 10, 12]),
        (Quantity(2, "epochs"), [8]),
        (Quantity(0.01, "epochs"), list(range(1, 13))),
    ],
)
def test_a_state_is_due_every_so_often(every: Quantity | None, due: list[int]) -> None:
    rule, horizon = Checkpoints(every=every), Horizon(4, 3)
    assert [step for step in range(1, 13) if rule.is_due(step, horizon)] == due


def test_which_policies_save_a_state() -> None:
    every = Quantity(3, "iters")
    assert [Checkpoints(last=last, every=e).can_resume for last in (False, True) for e in (None, every)] == [
        False, True, True, True
    ]  # fmt: skip
    with pytest.raises(ValueError, match="above 0"):
        Checkpoints(every=Quantity(0, "iters"))
