"""Rewrites: every one has a name of its own, `compile --dump` shows its result, and a new one is shown at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from torch import fx

from segdsl.cli.invoke import run_cli
from segdsl.export.convert.rewrites import EXPORT_REWRITES, ONNX_REWRITES
from segdsl.export.stages import list_stages
from segdsl.ir.graph import Graph
from segdsl.lower.inference_rewrites import INFERENCE_REWRITES
from segdsl.passes import PASSES

PROGRAM = """seg 1

extends "std/semantic.seg"

model Mixed(classes: int) {
  in image: [B, 3, H, W]

  stem       = image -> Identity() -> Conv(8, 3x3, stride = 2) -> BatchNorm() -> Dropout(0.1)
  left       = stem -> GroupNorm(2) -> ChannelShuffle(groups = 2) -> AdaptiveAvgPool(6x8)
  right      = stem -> Conv(8) -> AdaptiveAvgPool(5x7) -> ResizeTo(left)
  out logits = left + right -> Conv(classes) as classifier -> ResizeTo(image)
}

model = Mixed(classes = 2)

data.classes    = ["background", "dot"]
data.input_size = 48x64
"""
STAGES = list_stages()
NAMES = [name for rewrites in STAGES.values() for name in rewrites]
CHANGES = {
    "elaborate": ("Identity()", ""),
    "remove_identity": ("Dropout", "Identity"),
    "drop_noise": ("BatchNorm2d", "Dropout"),
    "fold_norms": ("GroupNorm", "BatchNorm2d"),
    "pool_equal_windows": ("avg_pool2d(", "Dropout"),
    "split_group_norms": ("LayerNormGroupNorm", " GroupNorm("),
    "expand_shuffles": ("shuffle_channels(", "channel_shuffle("),
    "pool_with_matrices": ("pool_by_matrices(", "adaptive_avg_pool2d("),
}
"""What the graph has after a rewrite, and what it has no more."""


@pytest.fixture
def file(tmp_path: Path) -> str:
    (tmp_path / "mixed.seg").write_text(PROGRAM, encoding="utf-8")
    return str(tmp_path / "mixed.seg")


def dump(file: str, name: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert run_cli(["compile", file, "--dump", name]) == 0
    return capsys.readouterr().out


def test_no_two_rewrites_share_a_name() -> None:
    assert len(set(NAMES)) == len(NAMES)
    assert list(STAGES) == ["ir", "inference", "export", "onnx"]


@pytest.mark.parametrize("name", ["elaborate", *NAMES])
def test_each_rewrite_is_dumped(name: str, file: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = dump(file, name, capsys)
    assert text.startswith("in image") and "out " in text.splitlines()[-1]
    has, has_not = CHANGES.get(name, ("", ""))
    assert has in text and (not has_not or has_not not in text)


def test_a_dump_for_scripts_names_its_stage(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["compile", file, "--dump", "fold_norms", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["pass"], found["stage"]) == ("fold_norms", "inference")
    assert {"name", "path", "op", "target", "operands"} == set(found["graph"][0])


def test_a_dynamic_size_keeps_pools(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["compile", file, "--set", "export.onnx=ONNX(size = dynamic)", "--dump", "pool_with_matrices"]
    assert run_cli(command) == 0
    text = capsys.readouterr().out
    assert "adaptive_avg_pool2d(" in text and "pool_by_matrices(" not in text


def test_a_new_rewrite_of_any_stage_is_dumped(
    file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def keep_one_node(graph: Graph) -> Graph:
        return graph.model_copy(update={"nodes": graph.nodes[:1]})

    def rename_input(model: fx.GraphModule) -> None:
        next(iter(model.graph.nodes)).name = "picture"

    tables: list[dict[str, Any]] = [INFERENCE_REWRITES, EXPORT_REWRITES, ONNX_REWRITES]
    for number, table in enumerate(tables):
        monkeypatch.setitem(table, f"rename_input_{number}", rename_input)
    monkeypatch.setitem(PASSES, "keep_one_node", keep_one_node)
    assert run_cli(["compile", file, "--dump", "nothing"]) == 2
    listed = capsys.readouterr().err
    assert "keep_one_node" in listed and all(f"rename_input_{number}" in listed for number in range(3))
    assert len(dump(file, "keep_one_node", capsys).splitlines()) == 3
    monkeypatch.delitem(PASSES, "keep_one_node")
    for number in range(3):
        assert dump(file, f"rename_input_{number}", capsys).startswith("in picture")
