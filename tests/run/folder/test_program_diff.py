"""What has changed since a run was left is said by its meaning, and goes on or is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segdsl.cli.invoke import run_cli
from segdsl.lang.program import load
from segdsl.run.folder.program_diff import CHANGEABLE_SETTINGS, LOCATION_SETTINGS, compare_programs
from segdsl.run.train import train_file

GOLDENS = Path(__file__).resolve().parents[2] / "goldens" / "resume"
STEM = "stem = image -> Conv(8, 3x3, stride = 2, bias = false)"
REFUSED = {
    "optimizer": ["train.optimizer=SGD(lr = 0.1)"],
    "rate": ["train.optimizer.lr=1e-3"],
    "schedule": ["train.schedule=Constant()"],
    "loss-and-seed": ["train.loss=Dice()", "train.seed=7"],
    "batch": ["data.train.batch=2"],
    "augmentation": ["data.train.augment.flip.p=0.25"],
    "augmentation-added": ["data.train.augment.turn=VerticalFlip(p = 0.5)"],
    "input-size": ["data.input_size=32x32"],
    "weights": ['weights.model="other.safetensors"'],
    "frozen": ["train.freeze=[stem]"],
    "precision": ["train.precision=bf16"],
}
GOES_ON = {
    "epochs": ["train.epochs=3"],
    "stopper": ["train.stop=EarlyStopping(patience = 1 epochs, min_delta = 2.0)"],
    "keeper": ["train.keep=Checkpoints(best = 2, every = 1 iters)"],
    "loading": ["data.train.workers=1", "data.val.workers=1", "data.val.batch=1", "data.cache=0 GiB"],
    "after-training": ["eval.flip=true", "export.openvino=OpenVINO(precision = fp16)"],
}


@pytest.fixture
def left(
    project: Path, monkeypatch: pytest.MonkeyPatch, copy_result: Callable[[Path, Callable[[], object]], None]
) -> Path:
    """A run of one epoch, of two."""
    monkeypatch.setattr("segdsl.run.train.write_final_report", lambda *_: None)
    copy_result(project, leave)
    return project


def leave() -> None:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("segdsl.run.console.display.Display.show_epoch", interrupt)
        train_file("tiny.seg", out="left", quiet=True)


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def resumed(*overrides: str) -> int:
    given = [part for text in overrides for part in ("--set", text)]
    return run_cli(["train", "tiny.seg", "--out", "left", "--resume", "--device", "cpu", *given])


def content(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", REFUSED)
def test_a_change_of_what_a_step_depends_on_is_refused(
    left: Path, golden: Callable[[Path, str], None], capsys: pytest.CaptureFixture[str], name: str
) -> None:
    before = content(left / "left")
    assert resumed(*REFUSED[name]) == 1
    golden(GOLDENS / f"{name}.txt", capsys.readouterr().err)
    assert content(left / "left") == before


def edit(path: str, old: str, new: str) -> None:
    text = Path(path).read_text(encoding="utf-8")
    assert old in text
    Path(path).write_text(text.replace(old, new), encoding="utf-8")


EDITS = {
    "graph-argument": (STEM, "stem = image -> Conv(16, 3x3, stride = 2, bias = false)"),
    "graph-node": ("bn -> ReLU() ->", "bn -> ReLU() -> Dropout(0.1) ->"),
    "graph-operands": ("head = bn ->", "head = bn * stem ->"),
}


@pytest.mark.parametrize("name", EDITS)
def test_another_graph_is_refused(
    left: Path, golden: Callable[[Path, str], None], capsys: pytest.CaptureFixture[str], name: str
) -> None:
    edit("tiny.seg", *EDITS[name])
    assert resumed() == 1
    golden(GOLDENS / f"{name}.txt", capsys.readouterr().err)


def test_other_classes_are_refused(
    left: Path, golden: Callable[[Path, str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    for subset in ("train", "val"):
        edit(f"set/{subset}/dataset_meta.json", '"blue"', '"azure"')
    assert resumed() == 1
    golden(GOLDENS / "classes.txt", capsys.readouterr().err)


def test_other_data_are_refused(
    left: Path, golden: Callable[[Path, str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    image = left / "set/train/images/1-3.png"
    pixels = np.array(Image.open(image))
    pixels[0, 0] ^= 1
    Image.fromarray(pixels).save(image)
    assert resumed() == 1
    said = capsys.readouterr().err
    golden(GOLDENS / "data.txt", re.sub(r"[0-9a-f]{12}…", "0123456789ab…", said))


@pytest.mark.parametrize("name", GOES_ON)
def test_other_changes_are_accepted(left: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert resumed(*GOES_ON[name]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "epoch 1, step 2" in said
    for text in GOES_ON[name]:
        path = text.partition("=")[0]
        assert re.search(rf"`{re.escape(path)}[\w.]*` changed", said) or f"`{path.rpartition('.')[0]}` changed" in said
    stated = load("left/program.seg")
    changed = load(
        "tiny.seg",
        [
            "data.classes=[ground, red, blue]".replace("[", '["').replace("]", '"]').replace(", ", '", "'),
            *GOES_ON[name],
        ],
    )
    assert [one for one in compare_programs(stated, changed) if one.path not in LOCATION_SETTINGS] == []
    entry = json.loads(Path("left/resumed.json").read_text(encoding="utf-8"))[-1]
    assert set(entry["changed"]) <= {one for one in entry["changed"] if one.startswith(CHANGEABLE_SETTINGS)} != set()


def test_more_epochs_follow_a_run_that_had_ended(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segdsl.run.train.write_final_report", lambda *_: None)
    train_file("tiny.seg", out="left", quiet=True)
    result = train_file("left", ["train.epochs=5"], quiet=True, resume=True)
    assert (result.epochs, result.resume_step) == (5, 4)
    assert load("left/program.seg").train.epochs == 5


def test_another_layout_of_the_source_is_no_difference(left: Path) -> None:
    edit("tiny.seg", "  epochs    = 2", "  epochs    = 1 + 1  # two")
    edit("tiny.seg", "## Two convolutions, for tests.", "## Others words.")
    assert resumed() == 0


def test_a_note_tells_of_another_version(
    left: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("segdsl.run.session.__version__", "9.9.9")
    assert resumed() == 0
    assert re.search(r"from \S+ to 9\.9\.9", " ".join(capsys.readouterr().out.split()))
