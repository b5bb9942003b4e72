"""`segdsl compile`: golden tables of the seven models, JSON, output folders, and narrow terminals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from segdsl.cli.invoke import run_cli
from segdsl.cli.tables import format_part_table
from segdsl.ir.parts import build_parts
from segdsl.lang.program import load

ROOT = Path(__file__).resolve().parents[3]
GOLDENS = ROOT / "tests" / "goldens" / "compile"
PARAMETERS = {
    "litehrnet_s": 828_894, "litehrnet_18": 1_131_834, "litehrnet_x": 1_503_636, "segnext_t": 4_229_474,
    "segnext_s": 13_898_946, "segnext_b": 27_568_578, "dinov2": 24_421_634,
}  # fmt: skip


def compiled(capsys: Any, *args: str) -> str:
    assert run_cli(["compile", *args]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_table(name: str, capsys: Any, golden: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    text = compiled(capsys, f"specs/{name}.seg", "--classes", "2")
    assert f"parameters   {PARAMETERS[name]:,}: " in text
    golden(GOLDENS / f"{name}.txt", text)


def test_no_table_is_an_orphan() -> None:
    assert {path.stem for path in GOLDENS.iterdir()} == set(PARAMETERS)


@pytest.mark.parametrize("name", ["litehrnet_s", "segnext_t", "dinov2"])
def test_the_parts_add_up(name: str, capsys: Any) -> None:
    data = json.loads(compiled(capsys, str(ROOT / "specs" / f"{name}.seg"), "--classes", "2", "--json"))
    assert data["params"] == PARAMETERS[name]
    first = [part for part in data["parts"] if "." not in part["path"]]
    for key in ("params", "trainable_params", "flops"):
        assert sum(part[key] for part in first) == data[key]
    inner = [part for part in data["parts"] if part["path"].startswith("backbone.")]
    whole = next(part for part in first if part["path"] == "backbone")
    assert sum(part["params"] for part in inner) == whole["params"]
    assert data["computed_flops"] <= data["flops"]


def test_frozen_parts_are_marked(capsys: Any) -> None:
    text = compiled(capsys, str(ROOT / "specs" / "dinov2.seg"), "--set", "data.input_size=70x70")
    marked = [line.split()[0] for line in text.splitlines() if " frozen" in line and "%" in line]
    assert marked == ["backbone", "cls_token", "pos_embed", "patch_embed", "blocks", "norm"]
    assert "2,365,442 trained, 21,540,096 frozen, 0 fixed" in text


def test_the_depth_opens_and_closes_parts(capsys: Any) -> None:
    spec = str(ROOT / "specs" / "litehrnet_s.seg")
    flat, deep = (compiled(capsys, spec, "--depth", n) for n in ("1", "3"))
    assert "stage0" not in flat and "backbone" in flat
    assert "conv1" in deep and "expand_conv" in deep


def test_a_row_with_parameters_has_the_name_that_they_have(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "net.seg").write_text(TINY, encoding="utf-8")
    text = compiled(capsys, str(tmp_path / "net.seg"))
    assert [line.split()[0] for line in text.splitlines()[4:7]] == ["stem", "ham", "head"]
    assert "fixed" in text.splitlines()[5] and "16 fixed" in text


TINY = """seg 1

extends "std/semantic.seg"

model Net(classes: int) {
  in image: [B, 3, H, W]

  image -> Conv(8, 3x3) as stem -> ReLU() as act -> NMF(rank = 2) as ham
  out logits = ham -> Conv(classes) as head
}

data.input_size = 16x16
model = Net(classes = len(data.classes))
"""


@pytest.mark.parametrize("out", ["file/below", "file", "/proc/nowhere", "taken"])
def test_an_unusable_output_folder_is_refused(out: str, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.seg").write_text(TINY, encoding="utf-8")
    Path("file").write_text("mine", encoding="utf-8")
    Path("taken").mkdir()
    Path("taken", "model.py").write_text("mine", encoding="utf-8")
    assert run_cli(["compile", "net.seg", "--emit", "torch", "--out", out]) == 1
    assert "error[out-" in capsys.readouterr().err
    assert Path("file").read_text() == Path("taken", "model.py").read_text() == "mine"
    assert [p.name for p in Path("taken").iterdir()] == ["model.py"]


def test_a_folder_of_an_earlier_compile_is_replaced(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.seg").write_text(TINY, encoding="utf-8")
    for size in ("16x16", "32x32"):
        assert (
            run_cli(["compile", "net.seg", "--emit", "torch", "--out", "made", "--set", f"data.input_size={size}"]) == 0
        )
        assert "written to   made" in capsys.readouterr().out
    assert json.loads(Path("made", "summary.json").read_text())["input"] == [1, 3, 32, 32]
    assert not [p for p in Path("made").iterdir() if p.name.startswith(".")]
    assert run_cli(["compile", "net.seg", "--out", "made"]) == 0
    assert not Path("made", "model.py").exists() and not Path("made", "weights.pt").exists()


def test_a_folder_that_only_looks_like_an_earlier_one_is_refused(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.seg").write_text(TINY, encoding="utf-8")
    Path("theirs").mkdir()
    Path("theirs", "summary.json").write_text("mine", encoding="utf-8")
    assert run_cli(["compile", "net.seg", "--out", "theirs"]) == 1
    assert "error[out-taken]" in capsys.readouterr().err
    assert Path("theirs", "summary.json").read_text() == "mine"


def test_errors_on_a_folder_name_the_file_in_it(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.seg").write_text(TINY, encoding="utf-8")
    assert run_cli(["compile", "net.seg", "--out", "made"]) == 0
    assert run_cli(["compile", "made"]) == 1
    assert "`made/program.seg`" in capsys.readouterr().err
    Path("made", "checkpoints").mkdir()
    Path("made", "weights.safetensors").rename("made/checkpoints/best.safetensors")
    assert run_cli(["compile", "net.seg", "--weights", "made"]) == 1
    assert "`made/checkpoints/best.safetensors`" in capsys.readouterr().err


def test_a_failure_while_writing_leaves_nothing_half_done(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    def fail(*args: Any) -> None:
        raise RuntimeError("no room")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torch.save", fail)
    Path("net.seg").write_text(TINY, encoding="utf-8")
    assert run_cli(["compile", "net.seg", "--emit", "torch", "--out", "made"]) == 1
    assert "error[out-not-writable]" in capsys.readouterr().err
    assert list(Path("made").iterdir()) == []


def test_a_dump_does_nothing_else(tmp_path: Path, capsys: Any) -> None:
    spec = str(ROOT / "specs" / "quickstart.seg")
    assert run_cli(["compile", spec, "--dump", "elaborate", "--out", str(tmp_path / "x")]) == 2
    assert "--out" in capsys.readouterr().err and not (tmp_path / "x").exists()


def test_a_narrow_terminal_and_one_without_blocks() -> None:
    program = load(ROOT / "specs" / "litehrnet_s.seg", classes=2)
    whole = build_parts(program.graph)
    tables = {width: format_part_table(whole, {}, 2, width=width) for width in (50, 66, 80, 100, 200)}
    assert all(max(map(len, table.splitlines())) <= width for width, table in tables.items())
    assert "60x64x64" not in tables[50] and "60x64x64" in tables[66]
    assert "█" not in tables[66] and "█" in tables[100]
    plain = format_part_table(whole, {}, 2, width=100, unicode=False)
    assert plain.isascii() and "##" in plain and "60x64x64 ... 240x16x16" in plain
    assert "\x1b[1m" in format_part_table(whole, {}, 2, color=True)
