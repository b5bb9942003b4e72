"""Edits of the networks in `specs/examples`: one edit changes a width or depth, and a misfit is explained at its cause.

The diagnostics are golden files in `tests/goldens/edits`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from segdsl.cli.invoke import run_cli
from segdsl.lang.program import load

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = ROOT / "specs" / "examples"
GOLDENS = ROOT / "tests" / "goldens" / "edits"


def edited(example: str, old: str, new: str) -> str:
    text = (EXAMPLES / f"{example}.seg").read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {example}.seg"
    return text.replace(old, new)


PYRAMID, MSCAN = "pyramid", "mscan_fcn"
HEAD = "FCNHead(classes, channels = channels, depth = 2)"
FITS = [
    (PYRAMID, "width: int = 128", "width: int = 96"),
    (PYRAMID, "[48, 96, 192, 384]", "[32, 64, 128, 256]"),
    (PYRAMID, "[2, 3, 6, 3]", "[1, 1, 1, 1]"),
    (PYRAMID, "expand: int = 4", "expand: int = 6"),
    (PYRAMID, "PyramidSeg(classes = len(data.classes))", "PyramidSeg(classes = len(data.classes), width = 64)"),
    (MSCAN, "[32, 64, 160, 256]", "[24, 48, 96, 192]"),
    (MSCAN, "[3, 3, 5, 2]", "[2, 2, 2, 2]"),
    (MSCAN, "depth = 2)", "depth = 0)"),
    (MSCAN, "channels: int = 128", "channels: int = 64"),
]


@pytest.mark.parametrize(("example", "old", "new"), FITS, ids=lambda value: str(value)[:40])
def test_one_edit_changes_a_width_or_a_depth(example: str, old: str, new: str, tmp_path: Path) -> None:
    (tmp_path / "my.seg").write_text(edited(example, old, new), encoding="utf-8")
    program, before = load(tmp_path / "my.seg"), load(EXAMPLES / f"{example}.seg")
    assert program.graph.count_parameters() != before.graph.count_parameters()


@pytest.mark.parametrize("override", ["model.width=96", "model.depths=[1, 1, 2, 1]", "model.widths=[32, 64, 128, 256]"])
def test_the_command_line_changes_them_too(override: str) -> None:
    changed, before = load(EXAMPLES / "pyramid.seg", [override]), load(EXAMPLES / "pyramid.seg")
    assert changed.graph.count_parameters() < before.graph.count_parameters()


MISFITS = {
    "a-width-is-missing": (PYRAMID, "[48, 96, 192, 384]", "[48, 96, 192]"),
    "a-depth-of-none": (PYRAMID, "[2, 3, 6, 3]", "[0, 3, 6, 3]"),
    "a-stride-is-gone": (PYRAMID, "Unit(channels, stride = 2)", "Unit(channels)"),
    "a-stride-too-many": (PYRAMID, "stride = 2) as stem", "stride = 4) as stem"),
    "groups-do-not-divide": (PYRAMID, "groups = mid", "groups = 80"),
    "levels-are-not-resized": (PYRAMID, "each ResizeTo(c2, mode = bilinear) -> Concat()", "Concat()"),
    "levels-are-added": (PYRAMID, "[c2, c3, c4, c5]", "[c2 + c3, c4, c5]"),
    "the-head-has-another-count": (PYRAMID, "Conv(classes) as", "Conv(width) as"),
    "an-argument-is-unknown": (PYRAMID, "Stage(widths[1], depths[1])", "Stage(widths[1], deepth = 3)"),
    "nothing-is-expanded": (PYRAMID, "expand: int = 4", "expand: int = 0"),
    "library-width-is-missing": (MSCAN, "[32, 64, 160, 256]", "[32, 64, 160]"),
    "library-depth-of-none": (MSCAN, "[3, 3, 5, 2]", "[3, 3, 0, 2]"),
    "library-groups-do-not-divide": (MSCAN, HEAD, "LightHamHead(classes, channels = 100)"),
    "library-drop-out-of-range": (MSCAN, "MSCAN(widths, depths)", "MSCAN(widths, depths, drop_path_rate = 1.5)"),
    "the-head-gets-the-image": (MSCAN, "= backbone -> FCNHead", "= image -> FCNHead"),
    "the-head-is-one-op": (MSCAN, HEAD, "Conv(classes)"),
    "the-backbone-has-one-level": (MSCAN, "MSCAN(widths, depths)", "StemConv(32)"),
    "weights-name-another-part": (MSCAN, "  backbone = \"otx", "  backbon = \"otx"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISFITS)
def test_what_no_longer_fits_is_explained(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, golden: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my.seg").write_text(edited(*MISFITS[name]), encoding="utf-8")
    assert run_cli(["check", "my.seg"]) == 1
    found = capsys.readouterr().err
    assert "\n  --> my.seg:" in found or "\n --> my.seg:" in found or "\n   --> my.seg:" in found
    golden(GOLDENS / f"{name}.txt", found)


def test_no_golden_is_an_orphan() -> None:
    assert {path.stem for path in GOLDENS.glob("*")} == set(MISFITS)
