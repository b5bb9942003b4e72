"""Adaptive pools as other ops: equal results, with ops that a runtime executes fast."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch

from segdsl.export.convert.deployable import DeployableModel
from segdsl.export.export import export_model
from segdsl.inference.models import openvino_runtime
from segdsl.lang.program import load
from segdsl.lower.compiled import compile_program
from segdsl.words.exports import OpenVINO

PROGRAM = """seg 1

extends "std/semantic.seg"

model Pooled(classes: int) {{
  in image: [B, 3, H, W]

  small      = image -> Conv(6, 3x3, stride = 2) -> ReLU() -> AdaptiveAvgPool({size})
  out logits = small -> Conv(classes) as classifier -> ResizeTo(image)
}}

model = Pooled(classes = 2)

data.classes    = ["background", "dot"]
data.input_size = 48x64
export.openvino = OpenVINO(size = {free})
"""


def written(folder: Path, size: str, free: str = "static") -> Path:
    path = folder / "pooled.seg"
    path.write_text(PROGRAM.format(size=size, free=free), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("size", "free", "kind"),
    [
        ("6x8", "static", "AvgPool"),
        ("12x2", "static", "AvgPool"),
        ("1x1", "static", "AvgPool"),
        ("5x8", "static", "AdaptiveAvgPool"),
        ("6x8", "dynamic", "AdaptiveAvgPool"),
    ],
)
def test_equal_windows_are_pooled_as_windows(tmp_path: Path, size: str, free: str, kind: str) -> None:
    program = load(written(tmp_path, size, free))
    torch.manual_seed(0)
    model = compile_program(program, weights="none").model
    result = export_model(program, model, tmp_path / "export", "fp32")
    assert result.certificate["differing"] == 0.0
    assert result.certificate["rows"]["fp32"]["relative_logit_error"] < 1e-4
    ops = Counter(node.get_type_name() for node in openvino_runtime.read_model(result.model).get_ops())
    assert [name for name in ops if name.endswith("AvgPool")] == [kind]


@pytest.mark.parametrize("size", ["1x1", "6x8", "24x32", "5x8", "7x9"])
def test_pooled_values_stay_equal(tmp_path: Path, size: str) -> None:
    program = load(written(tmp_path, size))
    model = compile_program(program, weights="none").model
    image = torch.rand(2, 3, 48, 64)
    shipped, plain = (DeployableModel(model, program, OpenVINO(), optimize=reduce) for reduce in (True, False))
    with torch.inference_mode():
        torch.testing.assert_close(shipped(image)[1], plain(image)[1], rtol=1e-5, atol=1e-6)
