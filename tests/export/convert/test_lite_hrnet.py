"""The export of a complete published architecture: as small as the reference, and equal to PyTorch."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import torch

from segdsl.export.export import export_model
from segdsl.inference.models import openvino_runtime
from segdsl.lang.program import load
from segdsl.lower.compiled import compile_program

DUMP = Path(__file__).resolve().parents[3].parent / "shared" / "reference" / "ir_dump_litehrnet_s_fp32.json"


@pytest.mark.slow
def test_lite_hrnet_needs_no_more_ops_than_the_reference(root: Path, tmp_path: Path) -> None:
    if not DUMP.is_file():
        pytest.skip("../shared is not here")
    program = load(root / "specs" / "litehrnet_s.seg", ["data.input_size=128x128"], 11)
    torch.manual_seed(0)
    model = compile_program(program, weights="none").model
    with torch.no_grad():
        for _, parameter in sorted(model.named_parameters()):
            if parameter.dim() == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))  # else the norms' zeros fold away
    result = export_model(program, model, tmp_path, "fp32")
    assert result.certificate["differing"] == 0.0

    ours = Counter(node.get_type_name() for node in openvino_runtime.read_model(result.model).get_ops())
    reference = json.loads(DUMP.read_text(encoding="utf-8"))["ops"]
    assert ours["Convolution"] <= reference["Convolution"]  # two in a row are one
    for kind in ("GroupConvolution", "Sigmoid", "Relu", "VariadicSplit", "Softmax"):
        assert ours[kind] == reference[kind], kind
    assert ours["AvgPool"] and not {
        "AdaptiveAvgPool",
        "ShapeOf",
        "Gather",
        "Mod",
        "Floor",
        "Convert",
        "BatchNormInference",
    } & set(ours)
    assert sum(ours.values()) - ours["Constant"] < sum(reference.values()) - reference["Constant"]
