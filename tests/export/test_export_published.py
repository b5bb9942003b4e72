"""The export of the seven published models: each in a process of its own, since a crash of OpenVINO ends it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from segdsl.export.shipped import GroupNormByLayers

EXPORT = """
import json, sys
from pathlib import Path
import torch
from segdsl.export.openvino import export_model
from segdsl.lang.program import load
from segdsl.lower.compiled import compile_program
torch.manual_seed(0)
program = load(sys.argv[1], ["data.input_size=" + sys.argv[2]], classes=5)
model = compile_program(program, weights="none").model
print(json.dumps(export_model(program, model, Path(sys.argv[3]), sys.argv[4]).certificate))
"""


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("litehrnet_s", "64x96"), ("litehrnet_18", "64x96"), ("litehrnet_x", "64x96"), ("segnext_t", "64x96"),
        ("segnext_t", "256x256"), ("segnext_s", "64x96"), ("segnext_b", "128x128"), ("dinov2", "70x98"),
    ],
)  # fmt: skip
def test_each_exports_and_agrees(root: Path, tmp_path: Path, name: str, size: str, precision: str) -> None:
    command = [sys.executable, "-c", EXPORT, str(root / "specs" / f"{name}.seg"), size, str(tmp_path), precision]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    certificate = json.loads(done.stdout)
    assert certificate["differing"] <= (0.0 if precision == "fp32" else 1e-3)


@pytest.mark.parametrize("shape", [(2, 8, 5, 7), (1, 32, 1, 1)])
def test_a_group_norm_by_layers_is_a_group_norm(shape: tuple[int, ...]) -> None:
    norm = nn.GroupNorm(4, shape[1], eps=1e-3)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = torch.randn(shape)
    torch.testing.assert_close(GroupNormByLayers(norm)(x), norm(x))
