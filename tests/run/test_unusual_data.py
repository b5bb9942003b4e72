"""A whole run on data that is not plain: other channels, another label space. Train, score, export, predict."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import openvino
import pytest
import tifffile
from PIL import Image

from segdsl.cli.invoke import run_cli
from segdsl.inference.models.opener import open_model


def as_bands(root: Path, channels: int) -> None:
    """Every image as a TIFF of 16 bits with this many channels, of which the last is the opposite of the first."""
    for path in root.glob("*/images/*.png"):
        rgb = np.asarray(Image.open(path)).astype(np.uint16)
        bands = np.concatenate([rgb, rgb[:, :, ::-1]], axis=2)[:, :, :channels]
        bands[:, :, -1] = 255 - rgb[:, :, 0]
        tifffile.imwrite(path.with_suffix(".tif"), bands * 16, photometric="minisblack", planarconfig="contig")
        path.unlink()


def answer(capsys: pytest.CaptureFixture[str], *command: str) -> dict:
    assert run_cli([*command, "--json"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("channels", [4, 5])
def test_multiband_images_from_training_to_export(
    project: Path, capsys: pytest.CaptureFixture[str], channels: int
) -> None:
    as_bands(project / "set", channels)
    text = (project / "tiny.seg").read_text(encoding="utf-8")
    program = text.replace("[B, 3, H, W]", f"[B, {channels}, H, W]")
    program = program.replace("input_size = 24x32", "input_size = 20x28\n  levels = 0..4080")
    (project / "bands.seg").write_text(program, encoding="utf-8")
    assert answer(capsys, "data", "check", "bands.seg")["items"] == 11
    trained = answer(capsys, "train", "bands.seg", "--out", "run", "--set", "train.epochs=40")
    assert trained["best"]["dice"] > 0.7
    score = answer(capsys, "eval", "run")
    answer(capsys, "export", "run")
    xml = next((project / "run" / "export").glob("*.xml"))
    assert openvino.Core().read_model(xml).inputs[0].shape[1] == channels
    exported = answer(capsys, "eval", str(xml))
    assert exported["dice"] == pytest.approx(score["dice"], abs=1e-3)
    assert answer(capsys, "predict", str(xml), "set/val/images", "--out", "seen")["images"] == 3
    assert run_cli(["train", "tiny.seg", "--set", "data.levels=0..4080"]) == 1
    assert "error[image-channels]" in capsys.readouterr().err


def test_one_grey_channel(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (project / "tiny.seg").read_text(encoding="utf-8").replace("[B, 3, H, W]", "[B, 1, H, W]")
    (project / "grey.seg").write_text(text, encoding="utf-8")
    assert answer(capsys, "train", "grey.seg", "--out", "run", "--set", "train.epochs=30")["best"]["dice"] > 0.6
    assert answer(capsys, "bench", "grey.seg")["params"] > 0
    answer(capsys, "export", "run")


def test_a_label_space_from_training_to_export(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ids are read as names, one class becomes void, one gets another name; the program names no classes."""
    settings = ["--set", 'data.exclude=["red"]', "--set", 'data.remap=[Merge(["blue"], into = "deep blue")]']
    answer(capsys, "train", "tiny.seg", "--out", "run", "--set", "train.epochs=8", *settings)
    model = open_model(project / "run")
    assert model.classes == ("ground", "deep blue")
    assert model.program.data.classes == ("ground", "red", "blue")
    answer(capsys, "export", "run")
    xml = next((project / "run" / "export").glob("*.xml"))
    info = openvino.Core().read_model(xml).get_rt_info(["model_info", "labels"]).astype(str)
    assert info == "ground deep_blue"
    score = answer(capsys, "eval", str(xml))
    assert set(score["per_class"]) == {"ground", "deep blue"}
    assert score["dice"] > 0.6
