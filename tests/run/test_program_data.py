"""What is said of a program once its data is known, by the check and by a run alike."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from segdsl.cli.invoke import run_cli


def said(project: Path, capsys: pytest.CaptureFixture[str], *settings: str) -> set[str]:
    flags = [part for text in settings for part in ("--set", text)]
    assert run_cli(["data", "check", "tiny.seg", *flags]) == 0
    err = capsys.readouterr().err
    assert run_cli(["train", "tiny.seg", "--set", "train.epochs=1", *flags]) == 0
    told = capsys.readouterr().out
    found = {slug for slug in ("crop-larger", "hue-on-grey", "sampler-idle") if f"[{slug}]" in err}
    assert found == {slug for slug in ("crop-larger", "hue-on-grey", "sampler-idle") if slug in told}
    return found


def test_a_window_larger_than_most_images(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    step = "data.train.augment.flip="
    assert said(project, capsys, f"{step}RandomCrop(size = 24x32)") == set()
    assert said(project, capsys, f"{step}RandomCrop(size = 25x32)") == {"crop-larger"}


def test_hue_on_grey_images(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    step = "data.train.augment.flip=PhotometricDistortion()"
    assert said(project, capsys, step) == set()
    for path in (project / "set").glob("*/images/*.png"):
        Image.open(path).convert("L").save(path)
    assert said(project, capsys, step) == {"hue-on-grey"}
    still = "data.train.augment.flip=PhotometricDistortion(saturation = 1.0..1.0, hue = 0 deg)"
    assert said(project, capsys, still) == set()


def test_a_class_that_a_step_names_must_be_one(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = 'data.classes=["ground", "red", "blue"]'
    step = 'data.train.augment.flip=ClassMix(classes = ["rad"])'
    assert run_cli(["check", "tiny.seg", "--set", names, "--set", step]) == 1
    assert "did you mean `red`?" in capsys.readouterr().err


def test_a_sampler_without_effect(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(project, capsys, "data.train.sampler=RepeatFactor(threshold = 0.01)") == {"sampler-idle"}
    first = min((project / "set/train/masks").glob("*.png"))
    Image.new("L", Image.open(first).size).save(first)
    assert said(project, capsys, "data.train.sampler=ClassBalanced()") == set()
