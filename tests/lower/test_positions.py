"""Position tables: resized by DINOv2's own rule when a file was made for another grid, and DINOv2 at several sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from segdsl.diagnostics import SegError
from segdsl.ir.graph import Table
from segdsl.ir.program import Program
from segdsl.ir.shape import match_grid, parse_extent
from segdsl.lang.program import load, load_text
from segdsl.lower.compiled import CompileResult, compile_program
from segdsl.weights.adapt import infer_grid, resize_table
from segdsl.weights.report import Finding

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT.parent / "shared" / "reference"
SPEC = ROOT / "specs" / "dinov2.seg"
KEY = "backbone.pos_embed"
TABLE = Table(1, 1, parse_extent("H/14"), parse_extent("W/14"))
SMALL = """seg 1

extends "std/semantic.seg"
import "std/dinov2.seg"

## The blocks of DINOv2, one deep and 24 wide.
block Backbone() {
  in image: [B, C, H, W]

  param cls_token: [1, 1, 24] = 0.0
  param pos_embed: [1, 1 + H/14 * W/14, 24] = TruncNormal(std = 0.02)

  image -> PatchEmbed(24) as patch_embed
  tokens = patch_embed -> Tokens(first = cls_token)
  block  = tokens + pos_embed -> TransformerBlock(2)
  out y  = block -> ToMap(like = patch_embed, skip = 1)
}

model Small(classes: int) {
  in image: [B, 3, H, W]

  backbone   = image -> Backbone()
  head       = backbone -> Conv(classes, 1x1)
  out logits = head -> ResizeTo(image, mode = bilinear, align_corners = true)
}

data.input_size = 70x70
model = Small(classes = len(data.classes))
"""


def load_small(*settings: str) -> Program:
    return load_text(SMALL, ROOT / "small.seg", settings, classes=2)


def compiled(size: str, weights: str = "none") -> CompileResult:
    return compile_program(load_small(f"data.input_size={size}"), weights)


GRIDS = ["1 + H/14*W/14", "1 + (H/14*W)/14", "1 + (W/14*H)/14"]


@pytest.mark.parametrize("extent", GRIDS)
def test_a_grid_is_known_by_its_extent(extent: str) -> None:
    assert match_grid(parse_extent(extent)) == (1, parse_extent("H/14"), parse_extent("W/14"))


@pytest.mark.parametrize(
    "extent", ["7", "1 + H/14", "2*H/14*W/14", "H/14*H/14", "(H*W)/14", "H/14*W/14 + W", "H*W/2*W"]
)
def test_another_extent_is_no_grid(extent: str) -> None:
    assert match_grid(parse_extent(extent)) is None


def test_a_position_embedding_is_known_by_its_shape() -> None:
    assert load(SPEC, classes=2).graph.collect_tables() == {KEY: TABLE}
    assert TABLE.evaluate_grid((364, 518)) == (26, 37)


@pytest.mark.parametrize("grid", [(5, 5), (7, 9), (40, 40)])
def test_the_rule_is_that_of_the_authors(dinov2: Any, grid: tuple[int, int]) -> None:
    values = torch.from_numpy(dinov2.fill.fill(KEY, (1, 1370, 384), dinov2.name))
    golden = np.load(REFERENCE / "goldens" / "pos_embed.npz")[f"meta_{grid[0]}x{grid[1]}_first16ch"]
    got = resize_table(values, TABLE, (37, 37), grid)
    assert torch.equal(got[:, 0], values[:, 0])
    image = got[0, 1:].T.reshape(384, *grid).numpy()
    assert np.abs(image[: len(golden)] - golden).max() < 1e-5


def test_the_grid_is_the_named_one_or_a_square() -> None:
    assert infer_grid(TABLE, 1 + 37 * 37, {}) == (37, 37)
    assert infer_grid(TABLE, 1 + 26 * 37, {"input_size": "364x518"}) == (26, 37)
    assert infer_grid(TABLE, 1 + 26 * 37, {}) is None
    assert infer_grid(TABLE, 1 + 37 * 37, {"input_size": "364x518"}) is None


@pytest.mark.parametrize("size", [(560, 560), (364, 518)])
def test_it_runs_at_any_size_that_its_patches_divide(size: tuple[int, int]) -> None:
    height, width = size
    model = compile_program(load(SPEC, [f"data.input_size={height}x{width}"], classes=2), "none").model
    with torch.no_grad():
        logits = model.eval()(torch.randn(1, 3, height, width))
    assert logits.shape == (1, 2, height, width)
    assert model.get_parameter(KEY).shape == (1, 1 + height // 14 * (width // 14), 384)


def test_the_class_position_is_counted_once(tmp_path: Path) -> None:
    small = compiled("70x70").model.state_dict()
    save_file(small, tmp_path / "small.safetensors")
    wide = compiled("70x98", str(tmp_path / "small.safetensors")).model.state_dict()
    assert wide[KEY].shape == (1, 1 + 5 * 7, 24)
    assert torch.equal(wide[KEY][:, 0], small[KEY][:, 0])
    assert torch.equal(wide["backbone.cls_token"], small["backbone.cls_token"])


def test_a_table_is_resized_on_loading_and_said(tmp_path: Path) -> None:
    state = compiled("70x70").model.state_dict()
    bare = {key.removeprefix("backbone."): value for key, value in state.items() if key.startswith("backbone.")}
    torch.save(bare, tmp_path / "dinov2.pth")
    weights = f'weights.backbone="{tmp_path / "dinov2.pth"}"'
    built = compile_program(load_small("data.input_size=98x126", weights))
    (report,) = built.load_reports
    assert Finding("resized", (KEY,), "from 5x5 positions to 7x9") in report.findings
    assert torch.equal(built.model.get_parameter(KEY), resize_table(state[KEY], TABLE, (5, 5), (7, 9)))


def test_a_file_of_ours_may_be_of_any_grid(tmp_path: Path) -> None:
    state = compiled("70x98").model.state_dict()
    save_file(state, tmp_path / "wide.safetensors", {"input_size": "70x98"})
    back = compiled("98x70", str(tmp_path / "wide.safetensors"))
    assert back.load_reports[0].select_findings("resized") == [Finding("resized", (KEY,), "from 5x7 positions to 7x5")]
    same = compiled("70x98", str(tmp_path / "wide.safetensors"))
    assert not same.load_reports[0].findings and torch.equal(same.model.get_parameter(KEY), state[KEY])


def test_a_file_of_the_same_shape_is_not_touched(tmp_path: Path) -> None:
    state = compiled("28x112").model.state_dict()  # 2x8 cells, which a square has as well
    torch.save(state, tmp_path / "same.pt")
    back = compiled("28x112", str(tmp_path / "same.pt"))
    assert not back.load_reports[0].findings and torch.equal(back.model.get_parameter(KEY), state[KEY])


@pytest.mark.parametrize("said", ["0x0", "28x28", "9" * 5000 + "x14", "many", "\u0667\u0660x\u0667\u0660", ""])
def test_a_size_that_lies_is_refused(said: str, tmp_path: Path) -> None:
    save_file(compiled("70x70").model.state_dict(), tmp_path / "w.safetensors", {"input_size": said})
    with pytest.raises(SegError) as caught:
        compiled("70x98", str(tmp_path / "w.safetensors"))
    (found,) = caught.value.diagnostics
    assert "position" in found.help


@pytest.mark.parametrize(
    "spoil", [lambda t: t.to_sparse(), lambda t: t.to("meta"), lambda t: t.to(torch.int32), lambda t: t[0]]
)
def test_a_table_of_another_kind_is_refused(spoil: Any, tmp_path: Path) -> None:
    state = compiled("70x70").model.state_dict()
    torch.save({**state, KEY: spoil(state[KEY])}, tmp_path / "w.pt")
    with pytest.raises(SegError) as caught:
        compiled("70x98", str(tmp_path / "w.pt"))
    assert {d.slug for d in caught.value.diagnostics} <= {"weights-do-not-fit", "weights-unreadable"}
    assert "square" not in str([d.help for d in caught.value.diagnostics])


def test_a_table_in_half_precision_is_resized(tmp_path: Path) -> None:
    state = compiled("70x70").model.state_dict()
    torch.save({**state, KEY: state[KEY].half()}, tmp_path / "w.pt")
    got = compiled("70x98", str(tmp_path / "w.pt")).model.get_parameter(KEY)
    assert (got - resize_table(state[KEY], TABLE, (5, 5), (5, 7))).abs().max() < 1e-3


def test_a_grid_that_cannot_be_told_is_refused(tmp_path: Path) -> None:
    save_file(compiled("70x98").model.state_dict(), tmp_path / "wide.safetensors")
    with pytest.raises(SegError) as caught:
        compiled("98x98", str(tmp_path / "wide.safetensors"))
    (found,) = caught.value.diagnostics
    assert found.slug == "weights-do-not-fit"
    assert "square" in found.help
