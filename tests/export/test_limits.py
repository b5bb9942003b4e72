"""Limits of an export: models made to fail, missing datasets, runs without weights, and kills halfway."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from segdsl import verbs
from segdsl.cli import streams
from segdsl.cli.invoke import run_cli as segdsl
from segdsl.export.int8 import quantize as quantizing
from segdsl.inference.models import extras
from segdsl.inference.models.opener import open_model
from segdsl.storage.draft_folders import DRAFT_FOLDER_PREFIX

LARGE = """
extends "std/semantic.seg"
import "std/blocks.seg"

model Large(classes: int) {
  in image: [B, 3, H, W]
  big = image -> Conv(2, bias = false) as large -> ReLU()
  out logits: [B, classes, H, W] = big -> Conv(classes, bias = false) as small
}

data {
  root       = "../data"
  classes    = ["left", "right"]
  normalize  = none
  input_size = 31x57
}

model = Large(classes = len(data.classes))
"""


def beyond_eight_bits(model: Any) -> None:
    """Red against twice the green, beside a channel that nothing needs and whose range leaves them no digit."""
    model.large.weight.copy_(torch.tensor([[400, 0, 0], [0.5, 0, 0], [0, 1, 0]]).view(3, 3, 1, 1))
    model.small.weight.copy_(torch.tensor([[0.0, 1, 0], [0, 0, 1]]).view(2, 3, 1, 1))


def beyond_half_precision(model: Any) -> None:
    """Red against twice the green, by numbers that half precision does not have."""
    model.large.weight.copy_(torch.tensor([[1e5, 0, 0], [0, 2e5, 0]]).view(2, 3, 1, 1))
    model.small.weight.copy_(1e-5 * torch.eye(2).view(2, 2, 1, 1))


def write_halves(root: Path, val: int = 2, void: bool = False) -> None:
    """Images of class 0 to the left and of class 1 to the right, of odd sizes."""
    for subset, count in (("train", 2), ("val", val)):
        for kind in ("images", "masks"):
            (root / subset / kind).mkdir(parents=True)
        labels = json.dumps({"label_map": {"0": "left", "1": "right"}})
        (root / subset / "dataset_meta.json").write_text(labels, encoding="utf-8")
        for k in range(count):
            image = np.full((33 + 2 * k, 61, 3), (200, 10, 0), np.uint8)
            image[:, 30:, 1] = 150
            mask = (image[..., 1] == 150).astype(np.uint8)
            Image.fromarray(image).save(root / subset / "images" / f"{k}.png")
            Image.fromarray(np.full_like(mask, 255) if void else mask).save(root / subset / "masks" / f"{k}.png")


def refused(capsys: pytest.CaptureFixture[str], *args: str) -> list[dict[str, Any]]:
    """Return the errors of a command that exits with status 1."""
    capsys.readouterr()
    assert segdsl([*args, "--json"]) == 1
    return json.loads(capsys.readouterr().out)["errors"]


@pytest.fixture
def large(tmp_path: Path, made_run: Any) -> Path:
    """A run whose weights exceed half precision, with its dataset next to it."""
    write_halves(tmp_path / "data")
    return made_run(tmp_path / "run", LARGE, beyond_half_precision)


def test_a_model_made_to_fail_in_half_precision_is_not_written(large: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is patched: the trained model is right, the exported one would be wrong."""
    (finding,) = [e for e in refused(capsys, "export", str(large), "--precision", "fp16") if "fp16" in e["message"]]
    assert finding["slug"] == "export-differs" and "of Dice" in finding["message"]
    assert "`large" in finding["message"] and "--precision fp32" in finding["help"]
    assert list((large / "export").iterdir()) == []
    found = verbs.export(large, "fp32").certificate
    assert (found["rows"]["torch"]["dice"], found["dice"]) == (1.0, 1.0)
    assert found["rows"]["fp16"]["dice_change"] < -0.3


def test_without_masks_the_exceeded_limit_is_named(large: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without masks the limit on pixels applies, so `--set export.tolerance.dice` would not help."""
    shutil.move(large.parent / "data", large.parent / "moved")
    (finding,) = [e for e in refused(capsys, "export", str(large), "--precision", "fp16") if "fp16" in e["message"]]
    assert finding["slug"] == "export-differs" and "of the pixels" in finding["message"]
    assert "10 times `export.tolerance.pixels`" in finding["help"] and "dice" not in finding["help"]
    assert "--precision fp32" in finding["help"] and "--data" in finding["help"]


def test_a_failed_export_keeps_the_earlier_one(large: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (large / "export").mkdir()
    for name in ("model-fp16.xml", "model-fp16.bin", "model.onnx"):
        (large / "export" / name).write_text("older")
    refused(capsys, "export", str(large), "--precision", "fp16", "--set", "export.onnx=ONNX()")
    assert {p.name: p.read_text() for p in (large / "export").iterdir()} == dict.fromkeys(
        ("model-fp16.xml", "model-fp16.bin", "model.onnx"), "older"
    )


def test_two_classes_one_image_and_odd_sizes_are_enough(tmp_path: Path, made_run: Any) -> None:
    write_halves(tmp_path / "data", val=1)
    found = verbs.export(made_run(tmp_path / "run", LARGE, beyond_half_precision))
    assert (found.certificate["images"], found.certificate["dice"]) == (1, 1.0)
    image = np.asarray(Image.open(tmp_path / "data" / "val" / "images" / "0.png"))
    assert open_model(found.model).predict(image).mean(0).tolist() == [0.0] * 30 + [1.0] * 31


def test_without_a_dataset_the_unknown_cost_is_a_warning(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.move(copied.parent / "data", copied.parent / "moved")
    assert segdsl(["export", str(copied), "--json"]) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)["certificate"]
    assert (found["source"], found["dice"], found["images"]) == ("noise", None, 4)
    assert "does not exist" in found["unscored"]
    assert "warning[export-unscored]" in captured.err and "--data" in captured.err
    assert segdsl(["export", str(copied), "--data", str(copied.parent / "moved"), "--json"]) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)["certificate"]
    assert (found["source"], found["unscored"]) == ("val", None) and found["dice"] is not None
    assert "warning" not in captured.err
    program = verbs.origin(copied / "export" / "model-fp32.xml")["program"]
    assert program == (copied / "program.seg").read_text(encoding="utf-8"), "it tells of no folder of this machine"


def test_int8_without_validation_images_is_refused(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(copied.parent / "data" / "val")
    (finding,) = refused(capsys, "export", str(copied), "--precision", "int8")
    assert finding["slug"] == "int8-without-data" and "validation images" in finding["message"]
    assert list((copied / "export").iterdir()) == []


@pytest.mark.slow
def test_layers_that_8_bits_destroy_stay_in_float(
    tmp_path: Path, made_run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    write_halves(tmp_path / "data")
    run = made_run(tmp_path / "run", LARGE.replace("Conv(2,", "Conv(3,"), beyond_eight_bits)
    assert segdsl(["export", str(run), "--precision", "int8"]) == 0
    captured = capsys.readouterr()
    found = verbs.origin(run / "export" / "model-int8.xml")["certificate"]
    told = found["int8"]
    assert found["dice"] == 1.0 and told["dice_fp32"] > 0.95
    assert told["dice_all_int8"] < 0.7 and told["lost_all_int8"] > 0.3
    costly = {part["part"] for part in told["parts"] if part["computes_in"] == "float"}
    assert costly == {"logits"} and told["layers_in_float"] == 1 and told["layers"] >= 1
    errors = [part["error"] for part in told["parts"]]
    assert errors == sorted(errors, reverse=True) and told["parts"][0]["dice_change"] < -0.3
    assert "1 layer in" in captured.err


def test_int8_with_only_ignored_pixels_is_refused(
    tmp_path: Path, made_run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    write_halves(tmp_path / "data", void=True)
    run = made_run(tmp_path / "run", LARGE, beyond_half_precision)
    (finding,) = refused(capsys, "export", str(run), "--precision", "int8")
    assert finding["slug"] == "int8-without-data" and "ignored" in finding["message"]


def test_only_ignored_pixels_leave_the_cost_unknown(
    tmp_path: Path, made_run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    write_halves(tmp_path / "data", void=True)
    run = made_run(tmp_path / "run", LARGE, beyond_half_precision)
    assert segdsl(["export", str(run), "--json"]) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)["certificate"]
    assert (found["source"], found["images"], found["dice"]) == ("val", 2, None) and "ignored" in found["unscored"]
    assert "warning[export-unscored]" in captured.err and "noise" not in captured.err


def test_a_missing_library_is_reported_before_any_work(
    copied: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda name: None)
    (finding,) = refused(capsys, "export", str(copied), "--precision", "int8")
    assert finding["slug"] == "int8-not-installed" and "segdsl[int8]" in finding["help"]
    assert not (copied / "export").exists()


TOLERANCES = [
    ("dice=1.5", "out-of-bounds"), ("dice=-0.1", "out-of-bounds"), ("pixels=2", "out-of-bounds"),
    ("logits=0", "out-of-bounds"), ("dices=0.1", "unknown-key"),
]  # fmt: skip


@pytest.mark.parametrize(("setting", "slug"), TOLERANCES)
def test_an_invalid_limit_is_refused(setting: str, slug: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert [e["slug"] for e in refused(capsys, "export", str(run), "--set", f"export.tolerance.{setting}")] == [slug]


def test_a_run_with_damaged_weights_is_refused(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    best = copied / "checkpoints" / "best.safetensors"
    content = bytearray(best.read_bytes())
    content[-100] ^= 1
    best.write_bytes(content)
    (finding,) = refused(capsys, "export", str(copied))
    assert finding["slug"] == "weights-unreadable" and "best.safetensors" in json.dumps(finding)
    best.unlink()
    (finding,) = refused(capsys, "export", str(copied))
    assert finding["slug"] == "run-without-weights" and "--resume" in finding["help"]
    assert not (copied / "export").exists()


def test_other_folders_are_not_runs(tmp_path: Path, fp32: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (tmp_path, tmp_path / "gone", fp32):
        assert [e["slug"] for e in refused(capsys, "export", str(path))] == ["run-not-found"]


@pytest.mark.slow
@pytest.mark.parametrize("file", ["openvino/fp32.xml", "model-fp32.xml", "model.onnx"])
def test_a_kill_leaves_nothing_that_looks_finished(file: str, copied: Path) -> None:
    """At several places: as soon as ``file`` is there, under a draft's name."""
    command = [sys.executable, "-m", "segdsl", "export", str(copied), "--set", "export.onnx=ONNX()"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        while not list((copied / "export").glob(f"{DRAFT_FOLDER_PREFIX}*/{file}")):
            assert child.poll() is None, "it ended before it could be killed"
            time.sleep(0.002)
        child.send_signal(signal.SIGKILL)
    assert [p.name for p in (copied / "export").iterdir() if not p.name.startswith(DRAFT_FOLDER_PREFIX)] == []
    found = verbs.export(copied)
    assert open_model(found.model).classes
    assert {p.name for p in (copied / "export").iterdir()} == {"model-fp32.xml", "model-fp32.bin"}


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_leaves_nothing(
    number: signal.Signals,
    status: int,
    copied: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def unheard(*_: object) -> None:
        raise RuntimeError

    def note(text: str) -> None:
        if text.startswith("comparing"):
            os.kill(os.getpid(), number)

    monkeypatch.setattr(streams, "print_note", note)
    before = signal.signal(number, unheard)
    try:
        assert segdsl(["export", str(copied), "--json"]) == status
    finally:
        assert signal.signal(number, before) is unheard
    captured = capsys.readouterr()
    assert json.loads(captured.out)["errors"][0]["slug"] == "interrupted" and "interrupted" in captured.err
    assert list((copied / "export").iterdir()) == []


def test_an_interrupt_ends_the_worker() -> None:
    seen: list[int] = []

    def told(text: str) -> None:
        seen.append(int(text))
        raise KeyboardInterrupt

    code = f"import os, time; print('{quantizing.PROGRESS_MARK}', os.getpid(), sep='', flush=True); time.sleep(600)"
    with pytest.raises(KeyboardInterrupt):
        quantizing._run_command([sys.executable, "-c", code], told)
    with pytest.raises(ProcessLookupError):
        os.kill(seen[0], 0)


def test_the_worker_ends_with_its_parent() -> None:
    code = "import segdsl.export.int8.worker as q, time; q.exit_with_parent(); print('up', flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None and child.stdin is not None
        assert child.stdout.readline() == b"up\n"
        child.stdin.close()
        assert child.wait(timeout=60) == 1


def test_progress_is_reported(copied: Path, capfd: pytest.CaptureFixture[str], wording: Callable[[str], None]) -> None:
    messages: list[str] = []
    verbs.export(copied, overrides=["export.onnx=ONNX()"], told=messages.append)
    assert len(messages) == 4 and messages[1] == messages[3] and "ONNX" in messages[2]
    wording("\n".join(messages))
    assert capfd.readouterr() == ("", "")
