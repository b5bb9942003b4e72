"""What a run prints: one line an epoch in a pipe, a live line on a terminal, never wider than 80 columns."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from segdsl.run.clock import Clock
from segdsl.run.display import Display, Head, duration
from segdsl.run.log import EpochRow
from segdsl.run.metrics import Confusion

HEAD = Head("a_name" * 20, 123_456_789, 12_345, "2048x2048", 1000, 100, 19, "cpu", Path("runs/x-1"), 200, 4600)


def row(epoch: int) -> EpochRow:
    confusion = Confusion(("background", "a class with a very long name, of more than forty characters", "c"), 255)
    confusion.update(np.array([0, 1, 1, 0]), np.array([0, 1, 0, 0]))
    return EpochRow(epoch, epoch * 4600, 12345.6, 1.2345e-5, 12.3456, 11.1, confusion, 1234.56)


def shown(terminal: bool) -> str:
    text = io.StringIO()
    display = Display(console=Console(file=text, width=80, force_terminal=terminal, color_system=None, highlight=False))
    display.start(HEAD)
    with display.running():
        display.epoch(row(199), 359_990, True)
        display.step(200, 4599, 12.345, 1e-5, 1234.5, 359_990)
        display.epoch(row(200), 0, False)
    display.end(row(199), row(200), "val.dice", Path("runs/x-1/checkpoints/best.safetensors"), "finished")
    return text.getvalue()


def test_a_pipe_gets_one_line_an_epoch() -> None:
    lines = shown(terminal=False).splitlines()
    assert max(map(len, lines)) <= 80
    assert [line.split()[1] for line in lines if line.startswith("epoch ")] == ["199/200", "200/200"]
    assert any("dice 0.733*" in line for line in lines)


def test_a_terminal_gets_the_step_too() -> None:
    text = shown(terminal=True)
    live = next(line for line in text.splitlines() if "loss 12.345" in line)
    assert live.strip().endswith("lr 1.0e-05 dice 0.733 1234.5 img/s 99h59m left")
    assert "epoch 200/200" in text


def test_the_report_says_where_things_are_and_what_is_next() -> None:
    text = shown(terminal=False)
    assert "best epoch 199: val.dice 0.7333" in text
    assert "runs/x-1/checkpoints/best.safetensors" in text
    assert "segdsl eval runs/x-1" in text and "segdsl export runs/x-1" in text
    table = {
        line.split()[0]: line.split()[-2:]
        for line in text.splitlines()
        if line.startswith(("background", "c ", "mean"))
    }
    assert table == {"background": ["0.8000", "0.6667"], "c": ["-", "-"], "mean": ["0.7333", "0.5833"]}


def test_quiet_prints_nothing(capsys: pytest.CaptureFixture) -> None:
    display = Display(quiet=True)
    display.start(HEAD)
    with display.running():
        display.step(1, 1, 1.0, 1.0, 1.0, 1.0)
        display.epoch(row(1), 1.0, True)
    display.end(row(1), row(1), "val.dice", Path("best.safetensors"), "finished")
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (59.6, "1m00s"), (192, "3m12s"), (7500, "2h05m"), (float("inf"), "?")]
)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_clock_forecasts_from_what_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    clock = Clock(epochs=10, started=90.0)
    assert clock.seconds_left(0) == float("inf")
    clock.start_epoch()
    now[0] = 104.0
    clock.step(8)
    now[0] = 110.0
    assert clock.speed == 2.0
    assert clock.seconds_left(2.5) == 30.0
    assert clock.seconds == 20.0
