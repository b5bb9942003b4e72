"""SIGINT and SIGTERM end a run after its step, with everything saved; a second SIGINT at once."""

from __future__ import annotations

import errno
import io
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from segdsl.data.loading.loader import Batch, EvalLoader
from segdsl.diagnostics import SignalInterrupt
from segdsl.run import signals
from segdsl.run.console.display import Display, StepFacts
from segdsl.run.folder.checkpoint import CheckpointWriter
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
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
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
    assert error["slug"] == "interrupted" and "`segdsl train left --resume`" in error["help"]
    assert "segdsl train left --resume" in err and "Traceback" not in err
    wait_for(lambda: not any(map(is_running, workers)), 10)
    epochs = f"train.epochs={step_of('left') // 2 + 2}"
    train_file("left", [epochs], quiet=True, resume=True)
    train_file("tiny.seg", [*LONG, epochs], out="whole", quiet=True)
    same_run(Path("left"), Path("whole"))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="this file system has no /proc")
def test_a_second_ctrl_c_ends_it_at_once(project: Path) -> None:
    """Also while a library works, and though a terminal and a wrapper each send the first one."""
    stuck = "import time\nfrom segdsl.run.engine import loop\nmake = loop.make_step\n"
    stuck += "def step(*given):\n    made = make(*given)\n"
    stuck += (
        "    if given[1].progress.step > 1:\n        open('stuck', 'w').close(); time.sleep(600)\n    return made\n"
    )
    stuck += "loop.make_step = step"
    with running("left", stuck) as (process, workers):
        wait_for(Path("stuck").exists)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
        time.sleep(1)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "stopping after" in err and "stopped at once" in err
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
    make = Display.show_step

    def send(self: Display, facts: StepFacts) -> None:
        if (facts.epoch, facts.step) == (epoch, step):
            os.kill(os.getpid(), signal.SIGINT)
        make(self, facts)

    monkeypatch.setattr(Display, "show_step", send)


def test_the_step_is_completed_and_the_handlers_are_restored(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    asking(monkeypatch, 2, 1)
    with pytest.raises(SignalInterrupt) as caught:
        train_file("tiny.seg", out="left", quiet=True)
    assert caught.value.signal_number == signal.SIGINT
    assert "segdsl train left --resume" in caught.value.help
    assert step_of("left") == 3
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert isinstance(caught.value, KeyboardInterrupt)


def test_a_signal_while_it_is_scored_loses_nothing(
    project: Path, monkeypatch: pytest.MonkeyPatch, same_run: Same
) -> None:
    monkeypatch.setattr("segdsl.run.train.write_final_report", lambda *_: None)
    overrides = ["train.epochs=3", "train.ema=EMA()"]
    train_file("tiny.seg", overrides, out="whole", quiet=True)
    watched = Signals.iterate_interruptibly

    def ask(self: Signals, items: list) -> Iterator[object]:
        for number, item in enumerate(watched(self, items)):
            yield item
            if number == 0 and self.signal_number == 0 and not Path("asked").exists():
                Path("asked").touch()
                self.signal_number = signal.SIGTERM

    monkeypatch.setattr(Signals, "iterate_interruptibly", ask)
    with pytest.raises(SignalInterrupt):
        train_file("tiny.seg", overrides, out="left", quiet=True)
    assert step_of("left") == 2
    train_file("left", quiet=True, resume=True)
    same_run(Path("left"), Path("whole"))


def send(number: int) -> Callable[..., None]:
    return lambda *_: os.kill(os.getpid(), number)


def test_a_signal_before_the_first_step(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segdsl.run.train.write_final_report", lambda *_: None)
    with monkeypatch.context() as patch:
        patch.setattr("segdsl.run.train.prepare_run", send(signal.SIGTERM))
        with pytest.raises(SignalInterrupt) as caught:
            train_file("tiny.seg", out="left", quiet=True)
    assert caught.value.signal_number == signal.SIGTERM and "--resume" not in caught.value.help
    assert not Path("left").exists()
    train_file("tiny.seg", out="left", quiet=True)
    with monkeypatch.context() as patch:
        patch.setattr("segdsl.run.train.probe_writing", send(signal.SIGHUP))
        with pytest.raises(SignalInterrupt) as caught:
            train_file("left", ["train.epochs=3"], quiet=True, resume=True)
    assert caught.value.signal_number == signal.SIGHUP and "`segdsl train left --resume`" in caught.value.help
    assert not Path("left/.occupied").exists()
    assert train_file("left", quiet=True, resume=True).epochs == 3


def test_the_advice_for_a_signal_after_the_last_step(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segdsl.run.train.write_final_report", send(signal.SIGINT))
    with pytest.raises(SignalInterrupt) as caught:
        train_file("tiny.seg", out="-left", quiet=True)
    assert "`segdsl report ./-left`" in caught.value.help
    monkeypatch.setattr("segdsl.run.train.write_final_report", lambda *_: pytest.fail("it was asked to end"))
    monkeypatch.setattr("segdsl.run.folder.checkpoint.CheckpointWriter.save_epoch", with_signal(signal.SIGTERM))
    with pytest.raises(SignalInterrupt) as caught:
        train_file("tiny.seg", ["train.epochs=1"], out="next", quiet=True)
    assert caught.value.signal_number == signal.SIGTERM and "`segdsl report next`" in caught.value.help


def with_signal(number: int) -> Callable[..., bool]:
    """What writes the checkpoints of an epoch, with a signal in the middle."""
    write = CheckpointWriter.save_epoch

    def written(self: CheckpointWriter, *given: Any) -> bool:
        os.kill(os.getpid(), number)
        return write(self, *given)

    return written


def test_ignored_signals_stay_ignored(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `nohup` asks for SIGHUP, and a shell for the SIGINT of what a script has put into the background."""
    monkeypatch.setattr("segdsl.run.train.write_final_report", send(signal.SIGHUP))
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert train_file("tiny.seg", ["train.epochs=1"], out="left", quiet=True).epochs == 1
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_only_a_second_sigint_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[float] = []
    monkeypatch.setattr(signals, "_exit_at_once", lambda: ended.append(time.monotonic()))
    monkeypatch.setattr(signals, "ECHO_SECONDS", 0.0)
    with Signals() as heard, heard.defer_signals():
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            os.kill(os.getpid(), number)
            time.sleep(0.02)
        assert (heard.signal_number, ended) == (signal.SIGTERM, [])
        os.kill(os.getpid(), signal.SIGINT)
        wait_for(lambda: bool(ended), 10)


def test_a_signal_to_a_forked_process_is_received_once() -> None:
    with Signals() as heard, heard.defer_signals():
        child = os.fork()
        if child == 0:
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(signal.set_wakeup_fd(-1) != -1)
        assert os.waitpid(child, 0)[1] == 0
        assert heard.signal_number == 0


def test_a_closed_pipe_does_not_end_a_run(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed(io.StringIO):
        def write(self, *text: str) -> int:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        flush = write  # type: ignore[assignment]

    monkeypatch.setattr(sys, "stdout", Closed())
    assert train_file("tiny.seg", out="left").epochs == 2


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="the file system of Windows has no terminals")
def test_a_closed_terminal(project: Path) -> None:
    ours, theirs = os.openpty()
    take = "import os; os.open(os.ttyname(1), os.O_RDWR)\nfrom segdsl.cli import main\n"
    args = ["train", "tiny.seg", "--out", "left", *(part for text in LONG for part in ("--set", text))]
    command = [sys.executable, "-c", f"{take}main({args!r})"]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    try:
        said = b""
        while b"epoch" not in said or not Path("left/checkpoints/state.safetensors").exists():
            said += os.read(ours, 4096)
        os.close(ours)
        assert process.wait(60) == 128 + signal.SIGHUP
    finally:
        process.kill()
        process.wait()
    step = step_of("left")
    result = train_file("left", [f"train.epochs={step // 2 + 1}"], quiet=True, resume=True)
    assert result.resume_step == step


def test_loading_processes_that_die_of_it_are_no_fault(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the next pass over the images is begun with them."""
    begin, passes = EvalLoader.__iter__, iter(range(9))

    def iterate(self: EvalLoader) -> Iterator[Batch]:
        if next(passes) == 2:  # of the first, one batch was tried before the run
            os.kill(os.getpid(), signal.SIGTERM)
            for child in multiprocessing.active_children():
                os.kill(child.pid or 0, signal.SIGKILL)
        return begin(self)

    monkeypatch.setattr(EvalLoader, "__iter__", iterate)
    with pytest.raises(SignalInterrupt) as caught:
        train_file("tiny.seg", ["train.epochs=9", "data.val.workers=1"], out="left", quiet=True)
    assert caught.value.signal_number == signal.SIGTERM
    assert step_of("left") == 4


def test_signals_are_left_alone_outside_the_main_thread(project: Path) -> None:
    from threading import Thread

    done: list[int] = []
    thread = Thread(target=lambda: done.append(train_file("tiny.seg", quiet=True).epochs))
    thread.start()
    thread.join()
    assert done == [2]
