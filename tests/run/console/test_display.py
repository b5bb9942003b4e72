"""Console output of a run: one line per epoch in a pipe, a live line on a terminal, at most 80 columns."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from segdsl.diagnostics import Diagnostic
from segdsl.run.console.display import Display, RunSummary, StepFacts, fit_parts, format_duration
from segdsl.run.console.missing_classes import format_absence_notes
from segdsl.run.engine.clock import Clock
from segdsl.run.folder.log import EpochRow
from segdsl.scores.confusion import Confusion
from segdsl.text.columns import ELLIPSIS, measure_char

HEAD = RunSummary("a_name" * 20, 123_456_789, 12_345, "2048x2048", 1000, 100, 19, "cpu", Path("runs/x-1"), 200, 4600)


def row(epoch: int) -> EpochRow:
    confusion = Confusion(("background", "a class with a very long name, of more than forty characters", "c"), 255)
    confusion.update(np.array([0, 1, 1, 0]), np.array([0, 1, 0, 0]))
    return EpochRow(epoch, epoch * 4600, 12345.6, 1.2345e-5, 12.3456, 11.1, confusion, 1234.56)


def shown(terminal: bool, width: int = 80) -> str:
    text = io.StringIO()
    display = Display(
        console=Console(file=text, width=width, force_terminal=terminal, color_system=None, highlight=False)
    )
    display.show_summary(HEAD)
    with display.show_live_line():
        display.show_epoch(row(199), 359_990, True)
        display.show_step(StepFacts(200, 4599, 12.345, 1e-5, 1234.5, 359_990))
        display.show_epoch(row(200), 0, False)
    weights, report = Path("runs/x-1/checkpoints/best.safetensors"), Path("runs/x-1/report.html")
    display.show_results((row(199), row(200), "finished"), "val.dice", weights, report)
    return text.getvalue()


def test_a_pipe_gets_one_line_per_epoch() -> None:
    lines = shown(terminal=False).splitlines()
    assert max(map(len, lines)) <= 80
    assert [line.split()[1] for line in lines if line.startswith("epoch ")] == ["199/200", "200/200"]
    assert any("dice 0.733*" in line for line in lines)


def test_a_terminal_shows_steps_too() -> None:
    text = shown(terminal=True)
    live = next(line for line in text.splitlines() if "loss 12.345" in line)
    assert live.strip().endswith("lr 1.0e-05 dice 0.733 1234.5 img/s 99h59m left")
    assert "epoch 200/200" in text


def test_whole_output_of_a_run(wording: Callable[..., None]) -> None:
    text = shown(terminal=False)
    wording(text)
    table = {
        line.split()[0]: line.split()[-2:]
        for line in text.splitlines()
        if line.startswith(("background", "c ", "mean"))
    }
    assert table == {"background": ["0.8000", "0.6667"], "c": ["-", "-"], "mean": ["0.7333", "0.5833"]}


@pytest.mark.parametrize(
    ("width", "left"),
    [(80, "lr 1.0e-05 loss 12.3 9 img/s 2h left"), (30, "loss 12.3 9 img/s 2h left"), (20, "loss 12.3 2h left"),
     (15, "loss 12.3"), (5, "")],
)  # fmt: skip
def test_a_narrow_line_omits_dispensable_parts(width: int, left: str) -> None:
    parts = {"lr": "lr 1.0e-05", "loss": "loss 12.3", "dice": "", "speed": "9 img/s", "left": "2h left"}
    assert fit_parts(parts, width, " ") == left


@pytest.mark.parametrize("width", [80, 60, 40])
def test_the_lines_of_a_run_fit_the_terminal(width: int) -> None:
    text = re.sub("\x1b\\[[0-9;?]*[A-Za-z]", "\n", shown(terminal=True, width=width))
    lines = [line for line in text.splitlines() if "dice 0.733" in line and not line.startswith("best")]
    assert len(lines) == 3, "two epochs and a step"
    assert all(len(line.rstrip()) <= width for line in lines)


def test_the_bar_grows_with_the_terminal() -> None:
    lengths = [max(line.count("\u2501") for line in shown(terminal=True, width=w).splitlines()) for w in (80, 100, 200)]
    assert lengths[0] < lengths[1] < lengths[2] <= 30


def test_sixty_epochs_are_a_short_log() -> None:
    text = io.StringIO()
    display = Display(console=Console(file=text, width=80, color_system=None, highlight=False))
    display.show_summary(HEAD)
    for number in range(1, 61):
        display.show_epoch(row(number), 359_990, True)
    display.show_results((row(1), row(60), "finished"), "val.dice", Path("best.safetensors"))
    assert len(text.getvalue().encode()) < 20_000
    assert len([line for line in text.getvalue().splitlines() if line.startswith("epoch ")]) == 60


def test_notes_name_absent_and_unpredicted_classes(wording: Callable[..., None]) -> None:
    confusion = Confusion(tuple("abcdefghij"), 255)
    confusion.counts[:9, 0] = 1
    wording("\n".join(format_absence_notes(confusion)))
    confusion.counts[:] = 1
    assert format_absence_notes(confusion) == []


def test_long_names_of_classes_keep_the_width_of_the_terminal() -> None:
    names = ("ground", "x" * 200, "\u5927" * 60, "a name of many words " * 9)
    confusion = Confusion(names, 255)
    confusion.counts[:, 0] = 1
    text = io.StringIO()
    display = Display(console=Console(file=text, width=80, force_terminal=True, color_system=None, highlight=False))
    display.show_summary(replace(HEAD, monitor=f"val.dice.{names[1]}"))
    display.show_class_weights(dict.fromkeys(names, 1.0))
    one = EpochRow(1, 4600, 1.0, 1e-3, 1.0, 1.0, confusion, 1.0)
    display.show_epoch(one, 1.0, True)
    display.show_results((one, one, "finished"), f"val.dice.{names[1]}", Path("best.safetensors"))
    lines = text.getvalue().splitlines()
    assert max(sum(map(measure_char, line)) for line in lines) <= 80
    cut = ("x" * 31, "\u5927" * 15 + " ", "a name of many words a name of ")
    _, note = format_absence_notes(confusion)
    assert note.endswith(", ".join(name + ELLIPSIS for name in cut))


def test_samples_per_epoch_are_shown_only_with_a_sampler() -> None:
    def lines(head: RunSummary) -> list[str]:
        text = io.StringIO()
        Display(console=Console(file=text, width=80, color_system=None)).show_summary(head)
        return text.getvalue().splitlines()

    drawn = lines(replace(HEAD, sampler="RepeatFactor", samples_per_epoch=1234))
    assert re.findall(r"\d+", drawn[2]) == ["1000", "100"] and "1234 samples" in drawn[3] and "RepeatFactor" in drawn[3]
    assert not any("samples" in line for line in lines(HEAD))


def test_the_epoch_line_shows_the_monitored_score() -> None:
    text = io.StringIO()
    display = Display(console=Console(file=text, width=80, color_system=None, highlight=False))
    display.show_summary(replace(HEAD, monitor="val.iou.background"))
    display.show_epoch(row(1), 1.0, True)
    assert "dice 0.733  val.iou.background 0.667*" in text.getvalue()


def test_warnings_break_between_words_on_a_terminal() -> None:
    message = "a rather long sentence " * 8
    for terminal, count in ((True, 4), (False, 1)):
        text = io.StringIO()
        display = Display(console=Console(file=text, width=60, force_terminal=terminal, color_system=None))
        display.show_warnings([Diagnostic("lr-high", message.strip(), "-", severity="warning")])
        lines = text.getvalue().splitlines()
        assert (
            len(lines) == count and " ".join(line.strip() for line in lines) == f"warning[lr-high]: {message.strip()}"
        )


def test_quiet_prints_nothing(capsys: pytest.CaptureFixture) -> None:
    display = Display(quiet=True)
    display.show_summary(HEAD)
    with display.show_live_line():
        display.show_step(StepFacts(1, 1, 1.0, 1.0, 1.0, 1.0))
        display.show_epoch(row(1), 1.0, True)
    display.show_results((row(1), row(1), "finished"), "val.dice", Path("best.safetensors"))
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (59.6, "1m00s"), (192, "3m12s"), (7500, "2h05m"), (float("inf"), "?")]
)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_the_clock_estimates_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    clock = Clock(epochs=10, start_time=90.0)
    assert clock.estimate_seconds_left(0) == float("inf")
    clock.start_epoch(seconds_waited=7.0)
    now[0] = 104.0
    clock.record_step(8, seconds_waited=8.0)
    now[0] = 110.0
    assert clock.images_per_second == 2.0 and clock.waiting_share == 0.25
    assert clock.estimate_seconds_left(2.5) == 30.0
    assert clock.total_seconds == 20.0


def test_the_clock_of_a_resumed_run(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    clock = Clock(epochs=10, start_time=990.0, epochs_before=4.5, seconds_before=70.0)
    assert clock.estimate_seconds_left(4.5) == float("inf")
    now[0] = 1010.0
    assert clock.total_seconds == 90.0
    assert clock.estimate_seconds_left(5.0) == 100.0


@pytest.mark.parametrize(("hits", "noted"), [((0, 0), True), ((0, 5), False), ((0,), False)])
def test_note_on_a_score_that_never_changes(hits: tuple[int, ...], noted: bool) -> None:
    text = io.StringIO()
    display = Display(console=Console(file=text, width=80, color_system=None, highlight=False))
    display.show_summary(HEAD)
    rows = [row(number) for number in range(1, len(hits) + 1)]
    for one, more in zip(rows, hits, strict=True):
        one.confusion.counts[0, 0] += more
        display.show_epoch(one, 0, True)
    display.show_results((rows[0], rows[-1], "finished"), "val.dice", Path("best.safetensors"))
    assert ("in every epoch" in text.getvalue()) is noted
