"""A run that is killed at any moment and goes on ends as one that never stopped."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from segdsl.run.console.display import Display
from segdsl.run.folder.checkpoint import open_run
from segdsl.run.signals import Signals
from segdsl.run.train import RunResult, train_file
from segdsl.storage import atomic

Same = Callable[[Path, Path], None]
Whole = Callable[..., RunResult]
Slugs = Callable[[Callable[[], object]], list[str]]
OVERRIDES = [
    "train.epochs=4",
    "train.ema=EMA()",
    "data.train.batch=1",
    "train.accumulate=3",
    "train.schedule=Warmup(2 iters) -> ReduceOnPlateau(factor=0.5, patience=0 epochs)",
    "train.keep=Checkpoints(best=2, every=2 iters)",
    "train.stop=EarlyStopping(min_delta=0.0, patience=9 epochs)",
]


class Killed(BaseException):
    """What no code catches, as nothing catches SIGKILL."""


@pytest.fixture(autouse=True)
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segdsl.run.train.write_final_report", lambda *_: None)


@contextmanager
def killed_at(
    monkeypatch: pytest.MonkeyPatch,
    owner: object,
    name: str,
    number: int,
    after: bool,
    by: type[BaseException] = Killed,
) -> Iterator[None]:
    """While the call of that number (from 0) of a function is the last thing that happens, or does not happen any more.

    The draft of a file stays where it is, as a kill leaves it.
    """
    original, calls = getattr(owner, name), iter(range(1_000_000))

    def call(*given: object, **named: object) -> object:
        if next(calls) != number:
            return original(*given, **named)
        if after:
            original(*given, **named)
        raise by

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, call)
        yield


def trained(out: str, *more: str, resume: bool = True) -> RunResult:
    return train_file("tiny.seg", [*OVERRIDES, *more], out=out, quiet=True, resume=resume)


def rows(run: str) -> list[dict[str, str]]:
    with Path(run, "metrics.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(("step", "saved"), [(1, None), (2, None), (3, 2), (4, 3), (5, 4), (9, 8), (11, 10), (12, 10)])
def test_a_kill_after_any_step(
    noisy: Path, monkeypatch: pytest.MonkeyPatch, same_run: Same, whole_run: Whole, step: int, saved: int | None
) -> None:
    whole = whole_run(OVERRIDES, noisy=True)
    with killed_at(monkeypatch, Display, "show_step", step - 1, after=True), pytest.raises(Killed):
        trained("left")
    result = trained("left")
    same_run(noisy / "left", whole.run)
    assert result.best == whole.best and result.epochs == 4
    assert result.resume_step == saved


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True])
def test_a_kill_before_and_after_every_file_that_is_written(
    noisy: Path, monkeypatch: pytest.MonkeyPatch, same_run: Same, whole_run: Whole, after: bool
) -> None:
    """Also twice in a row at the same place."""
    for number in range(1_000):
        try:
            with killed_at(monkeypatch, Path, "replace", number, after):
                trained("left")
        except Killed:
            with killed_at(monkeypatch, Path, "replace", number % 3, after), pytest.raises(Killed):
                trained("left")
            trained("left")
            same_run(noisy / "left", whole_run(OVERRIDES, noisy=True).run)
            shutil.rmtree("left")
        else:
            break
    assert number > 30


@pytest.mark.parametrize("owner", ["log.RunLog.write_epoch", "checkpoint.CheckpointWriter.write_weights"])
@pytest.mark.parametrize("number", [0, 1, 3])
def test_a_kill_between_what_an_epoch_writes(
    noisy: Path, monkeypatch: pytest.MonkeyPatch, same_run: Same, whole_run: Whole, owner: str, number: int
) -> None:
    from segdsl.run.folder import checkpoint, log

    place = {"log": log.RunLog, "checkpoint": checkpoint.CheckpointWriter}[owner.partition(".")[0]]
    with killed_at(monkeypatch, place, owner.rpartition(".")[2], number, after=True), pytest.raises(Killed):
        trained("left")
    trained("left")
    same_run(noisy / "left", whole_run(OVERRIDES, noisy=True).run)


def test_without_a_state_the_run_starts_again(project: Path, monkeypatch: pytest.MonkeyPatch, same_run: Same) -> None:
    trained("whole", resume=False)
    assert trained("absent").resume_step is None
    Path("empty").mkdir()
    trained("empty")
    for number, name in enumerate(("machine.json", "lock.json", "program.seg")):
        with killed_at(monkeypatch, atomic, "replace_atomically", number, after=False), pytest.raises(Killed):
            trained(name)
        trained(name)
    with killed_at(monkeypatch, Signals, "defer_signals", 0, after=False), pytest.raises(Killed):
        trained("begun")
    assert trained("begun").resume_step is None
    for out in ("absent", "empty", "machine.json", "lock.json", "program.seg", "begun"):
        same_run(project / out, project / "whole")


def test_a_folder_of_other_things_is_no_run(project: Path, slugs: Slugs) -> None:
    assert slugs(lambda: trained("set")) == ["out-taken"]
    assert slugs(lambda: train_file("tiny.seg", resume=True, quiet=True)) == ["resume-without-out"]
    assert slugs(lambda: train_file("runs/nope", resume=True, quiet=True)) == ["run-not-found"]


def test_what_was_set_of_a_finished_run_is_written_down(project: Path) -> None:
    trained("done")
    trained("done", "data.val.batch=3", resume=True)
    trained("done", "data.val.batch=3", resume=True)
    entries = json.loads((project / "done/resumed.json").read_text(encoding="utf-8"))
    assert [entry["changed"] for entry in entries] == [{"data.val.batch": "3"}]


def test_a_run_folder_stands_for_its_program(
    noisy: Path, monkeypatch: pytest.MonkeyPatch, same_run: Same, whole_run: Whole
) -> None:
    for out, path, given in (
        ("one", "one", None),
        ("two", "two/program.seg", "two"),
        ("three", "three/program.seg", None),
    ):
        with killed_at(monkeypatch, Display, "show_step", 6, after=True), pytest.raises(Killed):
            trained(out)
        text = Path(out, "program.seg").read_bytes(), Path(out, "lock.json").read_bytes()
        train_file(path, out=given, quiet=True, resume=True)
        same_run(noisy / out, whole_run(OVERRIDES, noisy=True).run)
        assert text == (Path(out, "program.seg").read_bytes(), Path(out, "lock.json").read_bytes())


def test_run_and_data_may_have_moved(
    noisy: Path, monkeypatch: pytest.MonkeyPatch, same_run: Same, whole_run: Whole
) -> None:
    with killed_at(monkeypatch, Display, "show_step", 6, after=True), pytest.raises(Killed):
        trained("left")
    Path("far/away").mkdir(parents=True)
    shutil.move("left", "far/away/left")
    shutil.move("set", "far/set")
    result = train_file("far/away/left", data="far/set", quiet=True, resume=True)
    same_run(noisy / "far/away/left", whole_run(OVERRIDES, noisy=True).run)
    assert result.resume_step == 6
    assert open_run("far/away/left").program.data.root == "../../set"


def test_weights_that_it_started_from_need_not_be_there(
    noisy: Path, monkeypatch: pytest.MonkeyPatch, same_run: Same
) -> None:
    first = trained("first").run / "checkpoints/best.safetensors"
    start = [f'weights.model="{first}"']
    trained("whole", *start)
    with killed_at(monkeypatch, Display, "show_step", 6, after=True), pytest.raises(Killed):
        trained("left", *start)
    shutil.rmtree("first")
    trained("left", *start)
    same_run(noisy / "left", noisy / "whole")


def test_the_curves_have_every_step_once(noisy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The row of the second epoch is logged, and no checkpoint knows of it.
    with killed_at(monkeypatch, Display, "show_epoch", 1, after=True), pytest.raises(Killed):
        trained("left", "train.keep=Checkpoints(last=false, every=4 iters)")
    trained("left", "train.keep=Checkpoints(last=false, every=4 iters)")
    board = EventAccumulator(str(noisy / "left/tensorboard"))
    board.Reload()
    logged = [(event.step, event.value) for event in board.Scalars("val/dice")]
    assert [step for step, _ in logged] == [3, 6, 9, 12]
    assert [value for _, value in logged] == pytest.approx([float(row["val.dice"]) for row in rows("left")], abs=1e-5)


def test_a_torn_log_is_mended(noisy: Path, monkeypatch: pytest.MonkeyPatch, same_run: Same, whole_run: Whole) -> None:
    with killed_at(monkeypatch, Display, "show_step", 6, after=True), pytest.raises(Killed):
        trained("left")
    with Path("left/metrics.csv").open("a", encoding="utf-8") as file:
        file.write("3,9,1.0,0.1\n2,6")
    trained("left")
    same_run(noisy / "left", whole_run(OVERRIDES, noisy=True).run)


def test_a_finished_run_stays_as_it_is(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = trained("done")
    before = {p: p.read_bytes() for p in Path("done").rglob("*") if p.is_file() and "tensorboard" not in p.parts}
    again = train_file("done", resume=True)
    after = {p: p.read_bytes() for p in Path("done").rglob("*") if p.is_file() and "tensorboard" not in p.parts}
    assert before == after
    assert (again.best, again.epochs, again.resume_step) == (first.best, 4, 12)
    assert "finished after 4 epochs" in capsys.readouterr().out


@pytest.mark.parametrize("every", ["5 iters", "none"])
def test_a_finished_run_without_its_last_weights_stays_as_it_is(
    project: Path, monkeypatch: pytest.MonkeyPatch, every: str
) -> None:
    """Interrupted once, it has a state: that of its end, so that going on makes no epoch again."""
    more = f"train.keep=Checkpoints(last=false, every={every})"
    with (
        killed_at(monkeypatch, Display, "show_step", 5, after=False, by=KeyboardInterrupt),
        pytest.raises(KeyboardInterrupt),
    ):
        trained("done", more)
    assert (project / "done/checkpoints/state.safetensors").is_file()
    first = trained("done", more)
    before = {p: p.read_bytes() for p in Path("done/checkpoints").iterdir()}
    assert sorted(p.name for p in before) == ["best.safetensors", "state.safetensors"]
    again = trained("done", more)
    assert (again.resume_step, again.best, again.epochs) == (12, first.best, first.epochs)
    assert before == {p: p.read_bytes() for p in Path("done/checkpoints").iterdir()}


def test_the_best_weights_of_a_repeated_epoch_are_set_aside(
    project: Path, monkeypatch: pytest.MonkeyPatch, same_run: Same
) -> None:
    """The newest state may be older than the best weights, which a further kill must not cost."""
    more = ("train.keep=Checkpoints(last=false, every=7 iters)", "train.monitor=val.loss", "train.optimizer.lr=1e-3")
    trained("whole", *more)
    with killed_at(monkeypatch, Display, "show_step", 11, after=False), pytest.raises(Killed):
        trained("left", *more)
    best = open_run("left").weights.read_bytes()
    assert int(rows("left")[-1]["epoch"]) == 3
    with killed_at(monkeypatch, Display, "show_step", 0, after=False), pytest.raises(Killed):
        trained("left", *more)
    kept = open_run("left").weights
    assert (kept.name, kept.read_bytes()) == ("best-of-3.safetensors", best)
    trained("left", *more)
    same_run(project / "left", project / "whole")


def test_resuming_is_printed_and_recorded(
    noisy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for step in (4, 2):
        with killed_at(monkeypatch, Display, "show_step", step, after=True), pytest.raises(Killed):
            trained("left")
    capsys.readouterr()
    train_file("tiny.seg", OVERRIDES, out="left", resume=True)
    assert "epoch 2, step 6" in capsys.readouterr().out
    kept = json.loads(Path("left/resumed.json").read_text(encoding="utf-8"))
    assert [(entry["epoch"], entry["step"]) for entry in kept] == [(1, 4), (2, 6)]
    assert all(entry["when"].endswith("+00:00") and entry["machine"]["torch"] for entry in kept)
    assert kept[0]["seconds"] < kept[1]["seconds"] < float(rows("left")[-1]["seconds"])


@pytest.mark.slow
def test_three_kills_at_random(root: Path) -> None:
    command = [sys.executable, "bench/resume.py", "--kills", "3", "--seed", "3", "--set", "train.epochs=12"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=600)
    found = json.loads(done.stdout)
    assert (found["equal"], found["kills"], found["differ"]) == (True, 3, []), done.stderr
