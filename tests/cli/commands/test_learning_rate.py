"""`segdsl show --lr`: curve, axes, notes, and the points in the JSON."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from segdsl.cli.commands.learning_rate import BRAILLE_BLANK, BRAILLE_DOTS, ROWS
from segdsl.cli.invoke import run_cli
from segdsl.lang.program import load
from segdsl.words.schedules import Horizon, compute_rate_factor

PROGRAM = """seg 1

extends "std/semantic.seg"
import "std/lite_hrnet.seg"

model = LiteHRNetS(classes = len(data.classes))

train {
  optimizer = SGD(lr = 0.2, groups = [Group([backbone], lr = 0.02)])
  schedule  = Warmup(10 iters) -> Step([2 epochs], factor = 0.5)
  stop      = none
  epochs    = 6
}
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my.seg").write_text(PROGRAM, encoding="utf-8")


def shown(capsys: pytest.CaptureFixture[str], *args: str) -> list[str]:
    assert run_cli(["show", "my.seg", "--lr", *args]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 80 for line in lines) and "\x1b" not in "".join(lines)
    return lines


def points(capsys: pytest.CaptureFixture[str], *args: str) -> dict[str, Any]:
    assert run_cli(["show", "my.seg", "--lr", "--json", *args]) == 0
    return json.loads(capsys.readouterr().out)


def heights(lines: list[str]) -> list[int]:
    """The highest dot of each column of dots, from 0 at the bottom."""
    rows = [line[9:].ljust(70) for line in lines if re.match(r"^[ \d.e+-]{8}[┤│]", line)]
    assert len(rows) == ROWS
    found = []
    for x in range(140):
        bits = [
            (ord(row[x // 2]) - BRAILLE_BLANK, 4 * ROWS - 1 - 4 * r) for r, row in enumerate(rows) if row[x // 2] != " "
        ]
        found.append(max(top - d for cell, top in bits for d in range(4) if cell & BRAILLE_DOTS[d][x % 2]))
    return found


def test_the_curve_is_that_of_the_pure_function(
    capsys: pytest.CaptureFixture[str], wording: Callable[[str], None]
) -> None:
    lines = shown(capsys, "--steps-per-epoch", "20")
    assert lines[0].endswith("6 epochs of 20 steps")
    schedule, horizon = load("my.seg").train.schedule, Horizon(20, 6)
    for x, height in enumerate(heights(lines)):
        steps = range(max(x * 120 // 140 - 1, 0), x * 120 // 140 + 2)
        near = [compute_rate_factor(schedule, step, horizon) * (4 * ROWS - 1) for step in steps]
        assert min(near) - 1 <= height <= max(near) + 1
    labelled = [line[:8].strip() for line in lines if "┤" in line]
    assert labelled == ["2.0e-01", "1.0e-01", "0"]
    below = next(line for line in lines if line.endswith("6 epochs"))
    assert below.split() == ["0", "3", "6", "epochs"] and below.index("3") == 8 + 35
    wording("\n".join(lines[-3:]))


def test_the_points_are_those_of_the_pure_function(capsys: pytest.CaptureFixture[str]) -> None:
    data = points(capsys, "--steps-per-epoch", "20")
    schedule = load("my.seg").train.schedule
    expected = [
        {"step": s, "epoch": s / 20, "lr": 0.2 * compute_rate_factor(schedule, s, Horizon(20, 6))} for s in range(120)
    ]
    assert data["points"] == expected
    assert (data["lr"], data["epochs"], data["steps_per_epoch"], data["steps"]) == (0.2, 6, 20, 120)
    assert data["schedule"] == [
        {"name": "Warmup", "start": 0, "end": 10}, {"name": "Step", "start": 10, "end": 120},
    ]  # fmt: skip
    assert data["groups"] == [{"paths": ["backbone"], "lr": 0.02}]
    assert data["notes"] == []
    many = points(capsys, "--steps-per-epoch", "5000")["points"]
    assert len(many) == 1000 and (many[0]["step"], many[-1]["step"]) == (0, 29_999)


def test_images_make_batches(capsys: pytest.CaptureFixture[str]) -> None:
    assert points(capsys, "--images", "81")["steps_per_epoch"] == 11
    assert points(capsys, "--images", "81", "--set", "data.train.batch=81")["steps_per_epoch"] == 1
    assert points(capsys, "--images", "81", "--set", "train.accumulate=4")["steps_per_epoch"] == 3
    assert points(capsys)["steps_per_epoch"] == 100
    (note,) = points(capsys)["notes"]
    assert "100 steps" in note
    assert points(capsys, "--set", "train.schedule=Poly()")["notes"] == []


def test_a_schedule_that_depends_on_scores_is_drawn_without_reductions(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, "--images", "100", "--set", "train.schedule=ReduceOnPlateau()")
    assert set(heights(lines)) == {4 * ROWS - 1}
    assert lines[-1].startswith("note: `ReduceOnPlateau` depends on `val.dice`")
    stop = shown(capsys, "--set", "train.stop=EarlyStopping()", "--set", "train.schedule=Poly()")
    assert stop[-1].startswith("note: `train.stop` ")


def test_a_warmup_longer_than_the_run_is_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    args = ["show", "my.seg", "--lr", "--set", "train.schedule=Warmup(100 iters) -> Poly()"]
    assert run_cli([*args, "--steps-per-epoch", "10"]) == 0
    err = capsys.readouterr().err
    assert err.startswith("warning[warmup-too-long]: ") and re.search(r"\b100 steps\b.*\b60\b", err.splitlines()[0])
    assert run_cli([*args, "--steps-per-epoch", "100"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("epochs", "steps"), [(1, 1), (1, 1000), (2, 3), (200, 1), (200, 1000)])
def test_runs_of_any_length_are_drawn(epochs: int, steps: int, capsys: pytest.CaptureFixture[str]) -> None:
    for schedule in ("Poly()", "Warmup(1 iters) -> Step(every = 1 epochs)", "Poly(over = 1 iters)"):
        sets = ["--set", f"train.epochs={epochs}", "--set", f"train.schedule={schedule}"]
        lines = shown(capsys, "--steps-per-epoch", str(steps), *sets)
        assert len(heights(lines)) == 140


def test_color_on_terminals_and_asterisks_without_unicode(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = shown(capsys, "--images", "100")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert run_cli(["show", "my.seg", "--lr", "--images", "100"]) == 0
    colored = capsys.readouterr().out
    assert "\x1b[" in colored and re.sub(r"\x1b\[\d*m", "", colored).splitlines() == plain
    monkeypatch.delenv("FORCE_COLOR")
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict")
    monkeypatch.setattr(sys, "stdout", out)
    assert run_cli(["show", "my.seg", "--lr", "--images", "100"]) == 0
    out.flush()
    assert isinstance(out.buffer, io.BytesIO)
    lines = out.buffer.getvalue().decode("ascii").splitlines()
    assert sum("*" in line for line in lines) >= ROWS - 1 and all(len(line) <= 80 for line in lines)


@pytest.mark.parametrize(
    "args",
    [["--images", "5"], ["--set", "train.epochs=3"], ["--lr", "--images", "5", "--steps-per-epoch", "5"],
     ["--lr", "--images", "0"]],
)  # fmt: skip
def test_options_that_exclude_each_other(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["show", "my.seg", *args]) == 2


def test_a_program_without_an_optimizer_has_no_rate(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["show", "my.seg", "--lr", "--set", "drop train.optimizer"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error[train-incomplete]: ") and "`train.optimizer`" in err


def test_the_chart_in_the_manual_is_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    manual = (Path(__file__).resolve().parents[3] / "grammar" / "LANGUAGE.md").read_text(encoding="utf-8")
    program, drawing = re.findall(r"```seg\n((?:(?!```).)*)```\n\n```text\n(learning rate .*?)```", manual, re.DOTALL)[
        0
    ]
    Path("scratches.seg").write_text(program, encoding="utf-8")
    assert run_cli(["show", "scratches.seg", "--lr", "--images", "400"]) == 0
    assert capsys.readouterr().out == drawing
