"""SIGINT and SIGTERM end a run after its step, with everything saved; a second SIGINT at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from segdsl.diagnostics import Interrupted
from segdsl.run.display import Display
from segdsl.run.signals import Signals
from segdsl.run.train import train_file

Same = Callable[[Path, Path], None]
LONG = [
    "train.epochs=2000", "data.train.workers=2", "data.val.workers=1", "train.keep=Checkpoints(every=1 iters)",
    "train.schedule=Constant()",
]  # fmt: skip


def started(out: str, code: str = "", *more: str) -> subprocess.Popen[str]:
    """A run in a process group of its own, after ``code`` was run in it."""
    args = ["train", "tiny.seg", "--out", out, "--json", *more]
    args += [part for text in LONG for part in ("--set", text)]
    script = f"{code}\nimport sys\nfrom segdsl.cli import main\nmain({args!r})"
    command = [sys.executable, "-c", script]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=True)


@contextmanager
def running(out: str, code: str = "") -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A run that has made a step, and the processes that load for it."""
    process = started(out, code)
    try:
        wait_for(lambda: Path(out, "checkpoints/state.safetensors").exists() or process.poll() is not None)
        assert process.poll() is None, process.communicate()[1]
        yield process, children(process.pid)
    finally:
        process.kill()
        process.communicate()


def children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(number) for task in tasks for number in task.read_text(encoding="ascii").split()]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(holds: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def step_of(run: str) -> int:
    from safetensors import safe_open

    with safe_open(Path(run, "checkpoints/state.safetensors"), framework="pt") as file:
        return int(file.metadata()["step"])


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="this file system has no /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("everyone", [False, True], ids=["alone", "group"])
def test_a_signal_saves_all_and_leaves_no_process(
    project: Path, same_run: Same, number: signal.Signals, everyone: bool
) -> None:
    """Sent to the run alone, and to all its processes, as a terminal and a scheduler do."""
    with running("left") as (process, workers):
        assert len(workers) >= 2
        (os.killpg if everyone else os.kill)(process.pid, number)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 128 + number
    (error,) = json.loads(out)["errors"]
    assert error["slug"] == "interrupted" and error["help"] == "go on with `segdsl train left --resume`"
    assert "to go on: segdsl train left --resume" in err and "Traceback" not in err
    wait_for(lambda: not any(map(is_running, workers)), 10)
    epochs = f"train.epochs={step_of('left') // 2 + 2}"
    train_file("left", [epochs], quiet=True, resume=True)
    train_file("tiny.seg", [*LONG, epochs], out="whole", quiet=True)
    same_run(Path("left"), Path("whole"))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="this file system has no /proc")
def test_a_second_ctrl_c_ends_it_at_once(project: Path) -> None:
    """Also while a library works, and though a terminal and a wrapper each send the first one."""
    stuck = "import time\nfrom segdsl.run import train\nmake = train.make_step\n"
    stuck += "def step(*given):\n    made = make(*given)\n"
    stuck += (
        "    if given[1].progress.step > 1:\n        open('stuck', 'w').close(); time.sleep(600)\n    return made\n"
    )
    stuck += "train.make_step = step"
    with running("left", stuck) as (process, workers):
        wait_for(Path("stuck").exists)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
        time.sleep(1)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "stopping after this step" in err and "stopped at once" in err
    wait_for(lambda: not any(map(is_running, workers)), 10)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="this file system has no /proc")
def test_no_worker_outlives_a_run_that_is_killed(project: Path) -> None:
    with running("left") as (process, workers):
        assert len(workers) >= 2
        process.kill()
        process.wait()
        wait_for(lambda: not any(map(is_running, workers)), 3)


def asking(monkeypatch: pytest.MonkeyPatch, epoch: int, step: int) -> None:
    """Sends SIGINT to this process while it makes a step."""
    make = Display.step

    def send(self: Display, *given: int) -> None:
        if given[:2] == (epoch, step):
            os.kill(os.getpid(), signal.SIGINT)
        make(self, *given)

    monkeypatch.setattr(Display, "step", send)


def test_the_step_is_made_and_the_handlers_come_back(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    asking(monkeypatch, 2, 1)
    with pytest.raises(Interrupted) as caught:
        train_file("tiny.seg", out="left", quiet=True)
    assert caught.value.number == signal.SIGINT
    assert "segdsl train left --resume" in caught.value.help
    assert step_of("left") == 3
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert isinstance(caught.value, KeyboardInterrupt)


def test_a_signal_while_it_is_scored_loses_nothing(
    project: Path, monkeypatch: pytest.MonkeyPatch, same_run: Same
) -> None:
    monkeypatch.setattr("segdsl.run.train.report_at_end", lambda folder, display: None)
    overrides = ["train.epochs=3", "train.ema=EMA()"]
    train_file("tiny.seg", overrides, out="whole", quiet=True)
    watched = Signals.watched

    def ask(self: Signals, items: list) -> Iterator[object]:
        for number, item in enumerate(watched(self, items)):
            yield item
            if number == 0 and self.asked == 0 and not Path("asked").exists():
                Path("asked").touch()
                self.asked = signal.SIGTERM

    monkeypatch.setattr(Signals, "watched", ask)
    with pytest.raises(Interrupted):
        train_file("tiny.seg", overrides, out="left", quiet=True)
    assert step_of("left") == 2
    train_file("left", quiet=True, resume=True)
    same_run(Path("left"), Path("whole"))


def test_signals_stay_as_they_are_elsewhere(project: Path) -> None:
    from threading import Thread

    done: list[int] = []
    thread = Thread(target=lambda: done.append(train_file("tiny.seg", quiet=True).epochs))
    thread.start()
    thread.join()
    assert done == [2]
