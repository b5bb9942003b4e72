"""The logits of an exported model: they are found where OpenVINO has dropped or merged the node of the program."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from segdsl import verbs
from segdsl.export.certify.trial_images import generate_noise_images
from segdsl.inference.models import openvino_runtime
from segdsl.inference.models.opener import open_model
from segdsl.inference.models.tensor_names import add_outputs

PROGRAM = """
extends "std/semantic.seg"
import "std/blocks.seg"

{let}
model Small(classes: int) {{
  in image: [B, 3, H, W]

  low = image -> ConvModule(8, 3x3, stride = 2)
  up  = low -> Conv(classes) -> ResizeTo(image, mode = bilinear)
  {end}
}}

data {{
  root       = "../data"
  classes    = {classes}
  input_size = 45x64
}}

model = Small(classes = len(data.classes))
"""
BACKGROUND = '["background", "rust spot", "Öl, naß", "a_b"]'
METAL = '["metal", "rust spot", "Öl, naß", "a_b"]'
ENDS = {
    "the first of two": "two = up -> Conv(classes + 2)\n parts = two -> Split([classes, 2])\n out logits = parts[0]",
    "the last of two": "two = up -> Conv(classes + 2)\n parts = two -> Split([2, classes])\n out logits = parts[1]",
    "with nothing added": "out logits = up + k",
    "as they are": "out logits = up",
    "joined with the image": "out logits = [image, up] -> Concat() -> Conv(classes)",
}
SPLIT = ("the first of two", "the last of two", "with nothing added")
QUICK = {
    ("the first of two", METAL, "soft"),
    ("the last of two", METAL, "hard"),
    ("with nothing added", BACKGROUND, "hard"),
}
FORMS = [(name, BACKGROUND, "soft") for name in ENDS] + [
    pytest.param(name, *form, marks=() if (name, *form) in QUICK else pytest.mark.slow)
    for name in SPLIT
    for form in ((METAL, "soft"), (METAL, "hard"), (BACKGROUND, "hard"))
]


def seen_some(model: Any) -> None:
    for _ in range(5):
        model.train()(torch.randn(2, 3, 45, 64))


@pytest.fixture
def made(home: Path, tmp_path: Path, made_run: Any) -> Any:
    """Makes a run of a program that ends so, with its data beside it."""

    def make(end: str, classes: str = BACKGROUND) -> Path:
        if classes == BACKGROUND:
            shutil.copytree(home / "data", tmp_path / "data")
        let = "let k = 0.0" if "k" in ENDS[end].split() else ""
        return made_run(tmp_path / "run", PROGRAM.format(let=let, end=ENDS[end], classes=classes), seen_some)

    return make


@pytest.mark.parametrize(("end", "classes", "prediction"), FORMS)
def test_the_logits_of_a_file_are_those_of_torch(end: str, classes: str, prediction: str, made: Any) -> None:
    run = made(end, classes)
    found = verbs.export(run, overrides=[f"export.openvino=OpenVINO(prediction = {prediction})"])
    row = found.certificate["rows"]["fp32"]
    assert row["differing"] == 0.0 and 0 <= row["max_logit_error"] < 1e-4
    image = generate_noise_images(45, 64)[0]
    ours, theirs = open_model(found.model).predict_logits(image), open_model(run).predict_logits(image)
    assert ours.shape == theirs.shape == (4, 45, 64)
    assert np.abs(ours - theirs).max() < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("end", ["the last of two", "with nothing added"])
def test_of_8_bits_too(end: str, made: Any) -> None:
    run = made(end)
    found = verbs.export(run, "int8")
    assert found.certificate["rows"]["int8"]["max_logit_error"] < 1.0
    image = generate_noise_images(45, 64)[0]
    assert np.abs(open_model(found.model).predict_logits(image) - open_model(run).predict_logits(image)).max() < 1.0


def test_a_tensor_that_is_not_there_is_not_left_out(fp32: Path) -> None:
    model = openvino_runtime.read_model(fp32)
    assert len(add_outputs(model, ["logits", "head.1"]).outputs) == 3
    with pytest.raises(KeyError):
        add_outputs(model, ["logits", "head.2"])
