"""The description of a model's input and output agrees with the file."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from segdsl.cli.certificate_view import format_certificate
from segdsl.export.certify.interface import describe_interface
from segdsl.export.export import export_model
from segdsl.inference.models import openvino_runtime
from segdsl.ir.program import Program
from segdsl.lang.program import load
from segdsl.lower.compiled import compile_program
from segdsl.words.exports import ONNX, OpenVINO

PROGRAM = """seg 1

extends "std/semantic.seg"

model Plain(classes: int) {{
  in image: [B, 3, H, W]

  body       = image -> Conv(4, 3x3) -> ReLU()
  out logits = body -> Conv(classes) as classifier
}}

model = Plain(classes = len(data.classes))

data.classes    = [{classes}]
data.input_size = 32x48
{more}
"""


def program_of(folder: Path, classes: str, more: str = "") -> Program:
    path = folder / "plain.seg"
    path.write_text(PROGRAM.format(classes=classes, more=more), encoding="utf-8")
    return load(path)


@pytest.mark.parametrize(
    ("classes", "form"),
    [
        *(('"background", "dot"', form) for form in ("", "normalize = true", "prediction = hard", "size = dynamic")),
        ('"sky", "road", "car"', "prediction = hard"),
    ],
)
def test_shapes_and_channels_are_those_of_the_file(tmp_path: Path, classes: str, form: str) -> None:
    program = program_of(tmp_path, classes, f"export.openvino = OpenVINO({form})")
    result = export_model(program, compile_program(program, weights="none").model, tmp_path / "export", "fp32")
    said = result.certificate["interface"]
    model = openvino_runtime.read_model(result.model)
    shapes = [str(port.get_partial_shape()).replace("?", "-1") for port in (model.inputs[0], model.outputs[0])]
    size = "H, W" if "dynamic" in form else "32, 48"
    channels = len(program.classes) + (program.classes[0] == "sky")
    gives = f"[1, {size}]" if "hard" in form else f"[1, {channels}, {size}]"
    assert said["takes"].startswith(f"`image` [1, 3, {size}], RGB, ") and said["gives"].startswith(f"`output1` {gives}")
    if "dynamic" not in form:
        assert shapes == [f"[1,3,{size}]".replace(" ", ""), gives.replace(" ", "")]
    assert ("0 to 255" in said["takes"].partition("RGB, ")[2][:8]) is ("normalize" in form)
    image = np.random.default_rng(0).random((1, 3, 32, 48), np.float32)
    found = np.asarray(openvino_runtime.compile_model(model, "f32", result.model)(image)[0])
    if "0 is empty" in said["gives"]:
        assert found[:, 0].max() < 1e-6
        assert re.findall(r"(\d) is (\w+)", said["gives"])[1:] == [("1", "sky"), ("2", "road"), ("3", "car")]
    else:
        assert f"0 is {program.classes[0]}, 1 is {program.classes[1]}" in said["gives"]
        assert found.ndim == 3 or found[:, 0].max() > 1e-6


def test_the_interface_is_part_of_the_certificate(tmp_path: Path) -> None:
    program = program_of(tmp_path, '"sky", "road", "car"', "export.onnx = ONNX(normalize = true)")
    result = export_model(program, compile_program(program, weights="none").model, tmp_path / "export", "fp32")
    lines = format_certificate(result.certificate).splitlines()
    assert all(len(line) <= 80 for line in lines)
    text = " ".join(" ".join(lines).split())
    assert "`image` [1, 3, 32, 48], RGB, normalized: (v - [123.675, 116.28, 103.53])" in text
    assert re.search(r"`output1` \[1, 4, 32, 48\], \w+: 0 is \w+, 1 is sky", text)
    assert "`image` [1, 3, 32, 48], RGB, 0 to 255" in text
    assert re.search(r"`output1` \[1, 3, 32, 48\], \w+: 0 is sky", text)


@pytest.mark.parametrize(("normalize", "values"), [("none", "0 to 1"), ("imagenet", "normalized: ")])
def test_the_value_range_is_described(tmp_path: Path, normalize: str, values: str) -> None:
    program = program_of(tmp_path, '"background", "dot"', f"data.normalize = {normalize}")
    assert f"RGB, {values}" in describe_interface(program, OpenVINO(), False)["takes"]
    assert "RGB, 0 to 255" in describe_interface(program, ONNX(normalize=True), False)["takes"]


def test_long_class_lists_are_shortened(tmp_path: Path) -> None:
    program = program_of(tmp_path, ", ".join(f'"c{k}"' for k in range(20)))
    shown = re.findall(r"(\d+) is c(\d+)", describe_interface(program, OpenVINO(), True)["gives"])
    assert shown == [("1", "0"), ("2", "1"), ("3", "2"), ("20", "19")]
