"""What a run watches: the best weights, the log, the display and the report go by it."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segdsl.cli.invoke import run_cli
from segdsl.run.engine.setup import build_network, pick_device
from segdsl.run.folder.checkpoint import open_run
from segdsl.run.folder.log import EpochRow
from segdsl.run.program_data import open_data
from segdsl.run.report.best_worst import build_validation_loader, rank_images
from segdsl.run.train import train_file
from segdsl.scores.confusion import Confusion

Slugs = Callable[[Callable[[], object]], list[str]]


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def counted(folder: Path) -> Confusion:
    """The counts of the best weights of a run on its validation subset."""
    opened = open_run(folder)
    network, index = build_network(opened.program, opened.model, pick_device()), open_data(opened.program)
    return rank_images(network, build_validation_loader(opened.program, index), opened.classes, index.ignore).confusion


@pytest.mark.parametrize(
    ("monitor", "value"),
    [
        ("val.dice.red", lambda c: c.dice_by_class[1]),
        ("val.iou.blue", lambda c: c.iou_by_class[2]),
        ("val.foreground.dice", lambda c: np.mean(c.dice_by_class[1:])),
        ("val.foreground.miou", lambda c: np.mean(c.iou_by_class[1:])),
        ("val.foreground.dice_micro", lambda c: c.compute_foreground_scores(0)["dice_micro"]),
    ],
)
def test_the_monitor_decides_the_best_weights(
    project: Path, capsys: pytest.CaptureFixture[str], monitor: str, value: Callable[[Confusion], float]
) -> None:
    settings = [f"train.monitor={monitor}", "train.epochs=5", "train.optimizer.lr=0.3"]
    result = train_file("tiny.seg", settings)
    out = capsys.readouterr().out
    scores = [float(row[monitor]) for row in rows(result.run)]
    best = int(np.argmax(scores))
    assert result.best["epoch"] == best + 1 and result.best["monitored"] == pytest.approx(scores[best], abs=1e-5)
    assert value(counted(result.run)) == pytest.approx(scores[best], abs=1e-5)
    assert f"best epoch {best + 1}: {monitor} {scores[best]:.4f}" in out
    lines = [line for line in out.splitlines() if line.startswith("epoch ")]
    assert all(f"{monitor} {one:.3f}" in line for one, line in zip(scores, lines, strict=True))
    assert f"{monitor} {scores[best]:.3f}*" in out, "the best is marked by what is watched"
    page = (result.run / "report.html").read_text(encoding="utf-8")
    assert f"<dt>{monitor}</dt><dd>{scores[best]:.4f}</dd>" in page


def test_foreground_scores_match_those_of_eval(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = train_file("tiny.seg", ["train.monitor=val.foreground.dice", "train.epochs=1"], quiet=True)
    assert run_cli(["eval", str(result.run), "--scale", "input", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    row = rows(result.run)[0]
    for name in ("dice", "dice_micro", "miou"):
        assert float(row[f"val.foreground.{name}"]) == pytest.approx(found["foreground"][name], abs=1e-4)
    for name, scores in found["per_class"].items():
        assert float(row[f"val.iou.{name}"]) == pytest.approx(scores["iou"], abs=1e-4)


def test_the_background_may_be_any_class() -> None:
    confusion = Confusion(("a", "b"), 255)
    confusion.counts[:] = [[3, 1], [0, 4]]
    row = EpochRow(1, 1, 1.0, 1.0, 1.0, 1.0, confusion, 1.0, background=1)
    assert row.get_value("val.foreground.dice") == pytest.approx(6 / 7) == row.get_value("val.dice.a")


def test_the_monitor_must_be_a_class_of_the_data(project: Path, slugs: Slugs) -> None:
    monitor = ["train.monitor=val.dice.rde"]
    assert run_cli(["check", "tiny.seg", "--set", monitor[0]]) == 0, "the names are those of the data"
    assert slugs(lambda: train_file("tiny.seg", monitor, quiet=True)) == ["class-unknown"]
    assert not (project / "runs").exists()


def test_a_class_that_the_validation_lacks_cannot_be_watched(
    project: Path, slugs: Slugs, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (project / "set/val/masks").iterdir():
        mask = np.array(Image.open(path))
        Image.fromarray(np.where(mask == 2, 0, mask)).save(path)
    assert slugs(lambda: train_file("tiny.seg", ["train.monitor=val.iou.blue"], quiet=True)) == ["monitor-unseen"]
    assert not (project / "runs").exists()
    named = 'data.classes=["ground", "red", "blue"]'
    assert run_cli(["data", "check", "tiny.seg", "--set", named, "--set", "train.monitor=val.iou.blue"]) == 1
    assert "monitor-unseen" in capsys.readouterr().err
    assert train_file("tiny.seg", ["train.monitor=val.iou.red", "train.epochs=1"], quiet=True).epochs == 1


def test_a_run_with_a_class_monitor_can_be_resumed(project: Path) -> None:
    for epochs in (2, 5):
        settings = ["train.monitor=val.dice.red", "train.optimizer.lr=0.3", f"train.epochs={epochs}"]
        result = train_file("tiny.seg", settings, out="left", quiet=True, resume=True)
    scores = [float(row["val.dice.red"]) for row in rows(project / "left")]
    assert len(scores) == 5 and result.best["monitored"] == pytest.approx(max(scores), abs=1e-5)


def test_early_stopping_goes_by_the_class(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stop = "train.stop=EarlyStopping(min_delta = 1.0, patience = 2 epochs)"
    result = train_file("tiny.seg", ["train.monitor=val.dice.blue", "train.epochs=9", stop])
    assert result.epochs == 3 and "val.dice.blue" in capsys.readouterr().out
    assert "3 of 9 epochs" in (result.run / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["red\n", "a\tb", "\x1b[31mred", "x\ud800"])
def test_a_control_character_in_the_data_is_named(
    project: Path, capsys: pytest.CaptureFixture[str], slugs: Slugs, name: str
) -> None:
    meta = json.dumps({"label_map": {"0": "ground", "1": name, "2": "blue"}})
    for subset in ("train", "val"):
        (project / "set" / subset / "dataset_meta.json").write_text(meta, encoding="utf-8")
    assert slugs(lambda: train_file("tiny.seg", quiet=True)) == ["class-control-character"]
    assert not (project / "runs").exists()
    for command in (["data", "check", "set"], ["data", "stats", "set"], ["new", "my.seg", "--data", "set"]):
        assert run_cli(command) == 1, command
        err = capsys.readouterr().err
        assert "class-control-character" in err and "dataset_meta.json" in err and "\x1b[31m" not in err, command
    assert run_cli(["data", "check", "set", "--json"]) == 1
    (found,) = json.loads(capsys.readouterr().out)["errors"]
    assert found["slug"] == "class-control-character"
