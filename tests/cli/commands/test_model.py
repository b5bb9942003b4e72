"""The commands on models, from a program to predictions, on a tiny model and a few images."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

PROGRAM = """seg 1

## Four layers, for tests.
extends "std/semantic.seg"

model Tiny(classes: int, width: int = 8) {
  in image: [B, 3, H, W]

  stem = image -> Conv(width, 3x3, stride = 2, bias = false)
  bn   = stem -> BatchNorm()
  head = bn -> ReLU() -> Conv(classes, 1x1) as classifier
  out logits: [B, classes, H, W] = head -> ResizeTo(image, mode = bilinear, align_corners = false)
}

data {
  input_size = 64x64

  train {
    batch   = 4
    workers = 0
  }

  val.workers = 0
}

model = Tiny(classes = len(data.classes))

train {
  epochs   = 2
  schedule = Poly(power = 0.9)
}
"""


def segdsl(folder: Path, *args: str, status: int = 0) -> dict[str, Any]:
    command = [sys.executable, "-m", "segdsl", *args, "--json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == status, done.stdout + done.stderr
    assert done.stdout.count("\n") == 1
    assert "Traceback" not in done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def folder(build_once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """A project with a run that was trained and exported, and what these commands printed."""

    def fill(folder: Path) -> None:
        from segdsl.data.demo.generate import write_demo_dataset

        write_demo_dataset(folder / "data", train=8, val=4)
        (folder / "tiny.seg").write_text(PROGRAM, encoding="utf-8")
        run = segdsl(folder, "train", "tiny.seg", "--data", "data", "--out", "run")
        exported = segdsl(folder, "export", run["run"])
        (folder / "printed.json").write_text(json.dumps([run, exported]), encoding="utf-8")

    return build_once("chain", fill)


@pytest.fixture(scope="module")
def run(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "printed.json").read_text(encoding="utf-8"))[0]


@pytest.fixture(scope="module")
def exported(folder: Path) -> str:
    return json.loads((folder / "printed.json").read_text(encoding="utf-8"))[1]["model"]


def test_compile_counts_and_writes(folder: Path) -> None:
    found = segdsl(folder, "compile", "tiny.seg", "--classes", "3", "--out", "compiled")
    # 8*3*3*3 weights, 2*8 of the norm, 3*8 weights and 3 biases of the classifier
    assert found["params"] == found["trainable_params"] == 216 + 16 + 24 + 3
    assert found["macs"] == 32 * 32 * (216 + 24)
    assert found["flops"] == 2 * found["macs"]
    assert (found["input"], found["logits"]) == ([1, 3, 64, 64], [1, 3, 64, 64])
    assert found["name"] == "tiny"
    names = {"program.seg", "graph.json", "summary.json", "weights.safetensors"}
    assert {p.name for p in (folder / "compiled").iterdir()} == names
    again = segdsl(folder, "compile", "compiled/program.seg", "--weights", "compiled/weights.safetensors")
    assert again["params"] == found["params"]
    assert json.loads((folder / "compiled" / "summary.json").read_text()) == found


def test_frozen_parts_are_not_counted_as_trainable(folder: Path) -> None:
    found = segdsl(folder, "compile", "tiny.seg", "--classes", "3", "--set", "train.freeze=[stem, bn]")
    assert found["params"] - found["trainable_params"] == 216 + 16


def test_train_fills_a_run_folder(folder: Path, run: dict[str, Any]) -> None:
    assert run["epochs"] == 2
    assert 0 <= run["best"]["dice"] <= 1
    assert run["seconds"] > 0
    names = {p.name for p in (folder / "run").iterdir()}
    assert {"program.seg", "lock.json", "metrics.csv", "tensorboard", "checkpoints"} <= names


def test_a_taken_folder_is_refused(folder: Path, run: dict[str, Any]) -> None:
    before = sorted(p.stat().st_mtime_ns for p in (folder / "run").rglob("*"))
    found = segdsl(folder, "train", "tiny.seg", "--data", "data", "--out", "run", status=1)
    assert [e["slug"] for e in found["errors"]] == ["out-taken"]
    assert sorted(p.stat().st_mtime_ns for p in (folder / "run").rglob("*")) == before


def test_eval_of_the_run_and_of_the_exported_model_agree(folder: Path, run: dict[str, Any], exported: str) -> None:
    ours, theirs = (segdsl(folder, "eval", model, "--data", "data") for model in (run["run"], exported))
    assert set(ours["per_class"]) == {"background", "scratch", "stain", "dent"}
    assert ours["images"] == theirs["images"] == 4
    for key in ("dice", "miou", "accuracy"):
        assert ours[key] == pytest.approx(theirs[key], abs=1e-3)


def test_predict_writes_images(folder: Path, exported: str) -> None:
    found = segdsl(folder, "predict", exported, "data/val/images", "--out", "pictures")
    assert found["images"] == 4
    assert len([p for p in (folder / "pictures").rglob("*") if p.is_file()]) >= 8


def test_bench_of_program_run_and_model(folder: Path, run: dict[str, Any], exported: str) -> None:
    for model in ("tiny.seg", run["run"], exported):
        found = segdsl(folder, "bench", model)
        assert found["latency_ms"] > 0
        assert found["fps"] > 0


@pytest.mark.parametrize(
    "args", [["eval", "nothing"], ["export", "nothing"], ["predict", "nothing", "x.png", "--out", "o"], ["bench", "no"]]
)
def test_a_missing_model_is_an_error(folder: Path, args: list[str]) -> None:
    found = segdsl(folder, *args, status=1)
    assert len(found["errors"]) == 1
    assert found["errors"][0]["help"]


def test_settings_of_training_cannot_be_overridden_afterwards(folder: Path, run: dict[str, Any]) -> None:
    for verb, setting in (("eval", "data.input_size=32x32"), ("export", "train.epochs=3")):
        found = segdsl(folder, verb, run["run"], "--set", setting, status=1)
        assert [e["slug"] for e in found["errors"]] == ["setting-without-effect"]
        assert (found["errors"][0]["file"], found["errors"][0]["column"]) == ("--set", 1)


def test_settings_of_evaluation_can_be_overridden(folder: Path, run: dict[str, Any]) -> None:
    at_image = segdsl(folder, "eval", run["run"], "--data", "data")
    at_input = segdsl(folder, "eval", run["run"], "--set", "eval.scale=input", "--data", "data")
    assert at_image["accuracy"] != at_input["accuracy"]
