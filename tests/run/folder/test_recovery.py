"""Checkpoints hold what was written into them, and the newest that does is found."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from segdsl.run.folder.checkpoint import CheckpointWriter
from segdsl.run.folder.layout import RunFolder
from segdsl.run.folder.recovery import find_newest_state
from segdsl.run.train import train_file
from segdsl.weights.files import compute_content_digest, read_weights, write_tensors

Same = Callable[[Path, Path], None]
Slugs = Callable[[Callable[[], object]], list[str]]
STEP = 4096
"""Bytes of a page, in which a file system writes."""


@pytest.fixture
def left(
    project: Path, monkeypatch: pytest.MonkeyPatch, copy_result: Callable[[Path, Callable[[], object]], None]
) -> RunFolder:
    """A run of three epochs that ended before it could remove the state of the second; `whole` did not."""
    monkeypatch.setattr("segdsl.run.train.write_final_report", lambda *_: None)
    copy_result(project, leave)
    return RunFolder(Path("left"))


def leave() -> None:
    text = Path("tiny.seg").read_text(encoding="utf-8").replace("Conv(8, 3x3", "Conv(256, 3x3")
    Path("tiny.seg").write_text(text, encoding="utf-8")
    train_file("tiny.seg", ["train.epochs=3"], out="whole", quiet=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("segdsl.run.folder.checkpoint.CheckpointWriter.finish_run", lambda self, state: None)
        train_file("tiny.seg", ["train.epochs=3"], out="left", quiet=True)


def test_a_truncated_state_is_replaced_by_the_previous_one(left: RunFolder) -> None:
    content = left.state.read_bytes()
    assert len(content) > 20 * STEP
    for end in [*range(0, len(content), STEP), len(content) - 1]:
        left.state.write_bytes(content[:end])
        found = find_newest_state(left)
        assert found is not None and (found.path, found.corrupt_paths) == (left.previous, (left.state,))
        assert found.step == 4
    left.state.write_bytes(content)
    found = find_newest_state(left)
    assert found is not None and (found.step, found.corrupt_paths) == (6, ())


def test_a_state_with_pages_that_never_came_gives_way(left: RunFolder) -> None:
    """What a power cut leaves of a file whose length was written before its content."""
    content = left.state.read_bytes()
    for start in range(0, len(content), STEP):
        holed = content[:start] + bytes(len(content[start : start + STEP])) + content[start + STEP :]
        left.state.write_bytes(holed)
        found = find_newest_state(left)
        assert found is not None
        assert found.path == (left.state if holed == content else left.previous)


def test_the_previous_state_gives_the_same_run(
    left: RunFolder, same_run: Same, capsys: pytest.CaptureFixture[str]
) -> None:
    left.state.write_bytes(left.state.read_bytes()[: 3 * STEP])
    for name in (".state.safetensors.abc.part", ".best.safetensors.xyz.part"):
        (left.checkpoints / name).write_bytes(b"half of it")
    result = train_file("left", resume=True)
    said = " ".join(capsys.readouterr().out.split())
    assert "epoch 2, step 4" in said
    assert "`state.safetensors` is damaged" in said and "`state-previous.safetensors`" in said
    assert result.resume_step == 4
    same_run(left.root, Path("whole"))


def test_a_damaged_state_never_replaces_the_intact_one(left: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill between the two renames of the next write would leave nothing."""
    left.state.write_bytes(left.state.read_bytes()[: 3 * STEP])
    whole = left.previous.read_bytes()

    def seen(self: CheckpointWriter, state: object) -> None:
        assert left.state.read_bytes() == whole
        raise KeyboardInterrupt

    monkeypatch.setattr(CheckpointWriter, "save_state", seen)
    with pytest.raises(KeyboardInterrupt):
        train_file("left", quiet=True, resume=True)


@pytest.mark.parametrize("said", ["unable to mmap 4096 bytes: Cannot allocate memory (12)", "can't allocate memory"])
def test_running_out_of_memory_is_not_a_damaged_state(
    left: RunFolder, slugs: Slugs, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError(said)

    before = {path: path.read_bytes() for path in left.checkpoints.iterdir()}
    with monkeypatch.context() as patch:
        patch.setattr("segdsl.weights.files.safetensors.safe_open", refuse)
        assert slugs(lambda: train_file("left", resume=True, quiet=True)) == ["out-of-memory"]
    assert before == {path: path.read_bytes() for path in left.checkpoints.iterdir()}


def test_without_an_intact_state_nothing_is_resumed(left: RunFolder, slugs: Slugs) -> None:
    for path in (left.state, left.previous):
        path.write_bytes(path.read_bytes()[:-1])
    before = sorted(left.root.rglob("*"))
    assert slugs(lambda: train_file("left", resume=True, quiet=True)) == ["checkpoint-damaged"]
    assert sorted(left.root.rglob("*")) == before


def test_weights_alone_cannot_be_resumed(left: RunFolder, slugs: Slugs) -> None:
    for path in (left.state, left.previous):
        path.unlink()
    assert slugs(lambda: train_file("left", resume=True, quiet=True)) == ["resume-without-state"]


def test_a_state_of_another_program_is_refused(
    left: RunFolder, slugs: Slugs, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors, facts = read_weights(left.state)
    del tensors["model:stem.weight"]
    write_tensors(left.state, tensors, facts)
    assert slugs(lambda: train_file("left", resume=True)) == ["checkpoint-damaged"]
    assert "to resume" not in capsys.readouterr().out


def test_damaged_best_weights_are_rebuilt_or_deleted(left: RunFolder) -> None:
    left.best.write_bytes(left.best.read_bytes()[:-1])
    (left.checkpoints / "best-of-mine.safetensors").write_bytes(b"not ours")
    train_file("left", ["train.epochs=4"], resume=True, quiet=True)
    with safe_open(left.last, framework="pt") as file:
        assert file.metadata()["epoch"] == "4"
    assert (left.checkpoints / "best-of-mine.safetensors").exists()


def test_the_metadata_of_a_checkpoint(left: RunFolder) -> None:
    for path in (left.state, left.last, left.best):
        with safe_open(path, framework="pt") as file:
            facts = file.metadata()
        assert {"model", "classes", "monitor", "data", "segdsl", "torch", "device", "epoch", "step"} <= set(facts)
        stated = facts.pop("content_sha256")
        assert stated == compute_content_digest(load_file(path), facts)
        assert json.loads(facts["classes"]) == ["ground", "red", "blue"]


def test_checkpoints_with_changed_content_are_refused(tmp_path: Path, slugs: Slugs) -> None:
    path = tmp_path / "a.safetensors"
    tensors = {
        "half": torch.ones(3, dtype=torch.bfloat16), "number": torch.tensor(2.5), "none": torch.ones(0, 4),
        "flag": torch.tensor([True]),
    }  # fmt: skip
    write_tensors(path, tensors, {"epoch": "1"})
    read, facts = read_weights(path)
    assert facts == {"epoch": "1"} and all(torch.equal(read[key], tensors[key]) for key in tensors)
    with safe_open(path, framework="pt") as file:
        known = file.metadata()
    for changed, stated in (
        ({**tensors, "number": torch.tensor(2.0)}, known),
        ({"half": tensors["half"]}, known),
        (tensors, {**known, "epoch": "2"}),
        ({**tensors, "half": torch.ones(1, 3, dtype=torch.bfloat16)}, known),
    ):
        save_file(changed, path, stated)
        assert slugs(lambda: read_weights(path)) == ["weights-unreadable"]


def test_the_best_are_put_in_order(project: Path, monkeypatch: pytest.MonkeyPatch, same_run: Same) -> None:
    monkeypatch.setattr("segdsl.run.train.write_final_report", lambda *_: None)
    overrides = ["train.epochs=4", "train.keep=Checkpoints(best=3)"]
    train_file("tiny.seg", overrides, out="whole", quiet=True)
    shutil.copytree("whole", "left")
    names = ["best", "best-2", "best-3"]
    places = [Path("left/checkpoints") / f"{name}.safetensors" for name in names]
    contents = [path.read_bytes() for path in places]
    for order in ([1, 2, 0], [2, 1, 0], [1, 0, 2]):
        for path, number in zip(places, order, strict=True):
            path.write_bytes(contents[number])
        train_file("left", resume=True, quiet=True)
        same_run(Path("left"), Path("whole"))
    train_file("left", ["train.keep=Checkpoints(best=1)"], resume=True, quiet=True)
    assert [path.exists() for path in places] == [True, False, False]
    assert places[0].read_bytes() == contents[0]
