"""The export of the seven published models, each in a separate process, which a crash of OpenVINO may end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from segdsl.data.demo.generate import write_demo_dataset
from segdsl.export.convert.deployable import DeployableModel
from segdsl.export.convert.openvino import convert_to_openvino
from segdsl.export.convert.rewrites import LayerNormGroupNorm
from segdsl.export.export import export_model
from segdsl.inference.models import openvino_runtime
from segdsl.lang.program import load
from segdsl.lower.compiled import compile_program
from segdsl.words.exports import name_exporters

EXPORT = """
import json, sys
from pathlib import Path
import torch
from segdsl.export.certify.trial_images import open_trials
from segdsl.export.export import export_model
from segdsl.lang.program import load
from segdsl.lower.compiled import compile_program
torch.manual_seed(0)
names = ["background", "scratch", "stain", "dent"]
program = load(sys.argv[1], ["data.input_size=" + sys.argv[2], *sys.argv[5:]], classes=names)
model = compile_program(program, weights="none").model
trials = open_trials(program, Path(sys.argv[3]).parent)
print(json.dumps(export_model(program, model, Path(sys.argv[3]), sys.argv[4], trials).certificate))
"""


SIZES = [
    ("litehrnet_s", "64x96"), ("litehrnet_18", "64x96"), ("litehrnet_x", "64x96"), ("segnext_t", "64x96"),
    ("segnext_t", "256x256"), ("segnext_s", "64x96"), ("segnext_b", "128x128"), ("dinov2", "70x98"),
]  # fmt: skip


def exported(root: Path, folder: Path, name: str, size: str, precision: str, *overrides: str) -> dict[str, Any]:
    """Return the certificate of a program with random weights."""
    program = str(root / "specs" / f"{name}.seg")
    command = [sys.executable, "-c", EXPORT, program, size, str(folder), precision, *overrides]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize(("name", "size"), SIZES)
def test_each_exports_and_agrees(root: Path, tmp_path: Path, name: str, size: str, precision: str) -> None:
    onnx = ["export.onnx=ONNX()"] if precision == "fp32" else []
    certificate = exported(root, tmp_path / "export", name, size, precision, *onnx)
    assert certificate["differing"] <= (0.0 if precision == "fp32" else 1e-3)
    if onnx:
        assert certificate["onnx"]["differing"] == 0.0


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size"), SIZES)
def test_each_quantizes(root: Path, tmp_path: Path, name: str, size: str) -> None:
    write_demo_dataset(tmp_path / "data", train=4, val=2)
    settings = [f"data.root={json.dumps(str(tmp_path / 'data'))}", "export.tolerance.dice=1"]
    certificate = exported(root, tmp_path / "export", name, size, "int8", *settings)
    assert certificate["int8"]["layers"] > 20 and certificate["int8"]["layers_in_float"] == 0
    assert 0 < certificate["rows"]["int8"]["relative_logit_error"] < 10


@pytest.mark.slow
@pytest.mark.parametrize("name", ["litehrnet_s", "segnext_t"])
def test_a_dynamic_size_is_that_of_the_image(root: Path, name: str) -> None:
    form = "export.openvino=OpenVINO(size = dynamic)"
    program = load(root / "specs" / f"{name}.seg", ["data.input_size=64x96", form], ["background", "a", "b"])
    torch.manual_seed(0)
    model = compile_program(program, weights="none").model.eval()
    shipped = DeployableModel(model, program, name_exporters(program.export)["openvino"])
    compiled = openvino_runtime.compile_model(convert_to_openvino(shipped, program)[0], "f32", root)
    for size in ((64, 96), (96, 64), (128, 160)):
        image = torch.randn(1, 3, *size)
        with torch.inference_mode():
            expected = model(image).softmax(1).numpy()
        assert abs(compiled(image.numpy())[0] - expected).max() < 1e-3


@pytest.mark.slow
def test_onnx_with_a_dynamic_size(root: Path, tmp_path: Path) -> None:
    import onnxruntime

    program = load(root / "specs" / "segnext_t.seg", ["data.input_size=64x96", "export.onnx=ONNX(size = dynamic)"], 3)
    torch.manual_seed(0)
    model = compile_program(program, weights="none").model.eval()
    session = onnxruntime.InferenceSession(str(export_model(program, model, tmp_path, "fp32").files["onnx"]))
    for size in ((64, 96), (96, 64), (128, 160)):
        image = torch.randn(1, 3, *size)
        with torch.inference_mode():
            expected = model(image).softmax(1).numpy()
        said: Any = session.run(None, {"image": image.numpy()})
        assert abs(said[0] - expected).max() < 1e-3


@pytest.mark.parametrize("shape", [(2, 8, 5, 7), (1, 32, 1, 1)])
def test_a_group_norm_by_layers_is_a_group_norm(shape: tuple[int, ...]) -> None:
    norm = nn.GroupNorm(4, shape[1], eps=1e-3)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = torch.randn(shape)
    for dynamic in (False, True):
        torch.testing.assert_close(LayerNormGroupNorm(norm, dynamic)(x), norm(x))
