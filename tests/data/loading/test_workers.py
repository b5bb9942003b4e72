"""Workers: no batch is lost and no wait is endless, whatever the system refuses and whatever happens to a worker."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segdsl.data.augment.sample import Sample
from segdsl.data.loading import workers
from segdsl.data.loading.batch_memory import Arrays
from segdsl.data.loading.workers import WorkerPool
from segdsl.diagnostics import SegError, fail

HEIGHT, WIDTH = 6, 8
BATCH_BYTES = 2 * HEIGHT * WIDTH * 4


def make_sample(position: int) -> Sample:
    image = np.full((HEIGHT, WIDTH, 3), position, np.uint8)
    return Sample(image, image[..., 0] + 1)


def get_path(position: int) -> Path:
    return Path(f"{position}.png")


@pytest.fixture
def make_pool() -> Iterator[Callable[..., WorkerPool]]:
    pools: list[WorkerPool] = []

    def make(read_sample: Callable[[Any], Sample] = make_sample, count: int = 2, slot_bytes: int = BATCH_BYTES):
        pools.append(WorkerPool(read_sample, get_path, count, slot_bytes))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


def list_positions(batches: Iterator[Arrays]) -> list[list[int]]:
    """The samples of each batch, whose pixels tell their position."""
    found = []
    for images, targets in batches:
        assert images.shape[1:] == (HEIGHT, WIDTH, 3) and targets.shape == images.shape[:3]
        assert (images[..., 0] + 1 == targets).all()
        found.append(images[:, 0, 0, 0].tolist())
    return found


BATCHES = [[k, k + 1] for k in range(0, 40, 2)] + [[40]]


@pytest.mark.parametrize("slot_bytes", [BATCH_BYTES, 10], ids=["memory", "pipe"])
def test_batches_come_in_order(make_pool: Callable[..., WorkerPool], slot_bytes: int) -> None:
    def read(position: int) -> Sample:
        time.sleep(0.01 if position % 3 else 0)
        return make_sample(position)

    pool = make_pool(read, 3, slot_bytes)
    assert list_positions(pool.start_pass(BATCHES)) == BATCHES
    assert list_positions(pool.start_pass(BATCHES[::-1])) == BATCHES[::-1]
    assert list_positions(pool.start_pass([])) == []


def test_processes_that_are_not_forked_make_the_same(
    make_pool: Callable[..., WorkerPool], monkeypatch: pytest.MonkeyPatch
) -> None:
    context = multiprocessing.get_context("spawn")
    monkeypatch.setattr(workers.multiprocessing, "Process", context.Process)
    monkeypatch.setattr(workers.multiprocessing, "get_start_method", lambda: "spawn")
    assert list_positions(make_pool(count=1).start_pass(BATCHES)) == BATCHES


def test_a_pass_that_is_given_up_leaves_nothing_behind(make_pool: Callable[..., WorkerPool]) -> None:
    pool = make_pool()
    for _ in range(5):
        given_up = pool.start_pass(BATCHES)
        next(given_up)
    assert list_positions(pool.start_pass(BATCHES)) == BATCHES
    with pytest.raises(RuntimeError, match="another pass"):
        next(given_up)


def test_workers_make_only_so_much_ahead(make_pool: Callable[..., WorkerPool], tmp_path: Path) -> None:
    def read(position: int) -> Sample:
        (tmp_path / str(position)).touch()
        return make_sample(position)

    batches = make_pool(read).start_pass(BATCHES)
    next(batches)
    time.sleep(0.3)
    # two for each of two workers; the one in use makes way for none
    assert len(list(tmp_path.iterdir())) == 2 * (2 * workers.JOBS_PER_WORKER)


def catch(batches: Iterator[Arrays]) -> SegError:
    with pytest.raises(SegError) as caught:
        list(batches)
    return caught.value


def test_a_bad_file_is_reported_with_its_diagnostics(make_pool: Callable[..., WorkerPool]) -> None:
    def read(position: int) -> Sample:
        if position == 7:
            raise fail("image-truncated", "cut short", "copy it again", path="7.png")
        return make_sample(position)

    pool = make_pool(read)
    (found,) = catch(pool.start_pass(BATCHES)).diagnostics
    assert (found.slug, found.path, found.help) == ("image-truncated", "7.png", "copy it again")
    assert list_positions(pool.start_pass(BATCHES[4:])) == BATCHES[4:], "the workers go on"


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (MemoryError(), MemoryError, "out of memory"),
        (OSError(errno.EMFILE, "Too many open files", "7.png"), OSError, "Too many open files"),
        (ZeroDivisionError("a bug"), RuntimeError, "ZeroDivisionError: a bug"),
    ],
)
def test_any_other_error_is_passed_on(
    make_pool: Callable[..., WorkerPool], error: Exception, kind: type[Exception], text: str
) -> None:
    def read(position: int) -> Sample:
        raise error

    with pytest.raises(kind, match=text):
        list(make_pool(read).start_pass(BATCHES))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_that_is_killed_is_reported_with_what_it_was_reading(
    make_pool: Callable[..., WorkerPool], number: int
) -> None:
    def read(position: int) -> Sample:
        if position == 7:
            os.kill(os.getpid(), number)
        return make_sample(position)

    (found,) = catch(make_pool(read).start_pass(BATCHES)).diagnostics
    assert found.slug == "worker-died" and "7.png" in found.message and signal.Signals(number).name in found.message


def test_a_worker_that_is_stopped_is_reported(
    make_pool: Callable[..., WorkerPool], monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(position: int) -> Sample:
        if position == 7:
            os.kill(os.getpid(), signal.SIGSTOP)
        return make_sample(position)

    monkeypatch.setattr(workers, "HEARTBEAT_SECONDS", 0.05)
    monkeypatch.setattr(workers, "STOPPED_SECONDS", 0.2)
    pool = make_pool(read)
    (found,) = catch(pool.start_pass(BATCHES)).diagnostics
    assert found.slug == "worker-stopped"
    stopped = [worker.process for worker in pool.workers]
    pool.close()
    for process in stopped:
        process.join(5)
        assert process.exitcode is not None


def test_a_worker_that_is_stopped_for_a_moment_goes_on(
    make_pool: Callable[..., WorkerPool], monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(position: int) -> Sample:
        if position == 7:
            pid = os.getpid()
            subprocess.Popen([sys.executable, "-c", f"import os, time; time.sleep(0.3); os.kill({pid}, 18)"])
            os.kill(pid, signal.SIGSTOP)
        return make_sample(position)

    monkeypatch.setattr(workers, "HEARTBEAT_SECONDS", 0.05)
    assert list_positions(make_pool(read).start_pass(BATCHES)) == BATCHES


def test_a_late_batch_is_announced(make_pool: Callable[..., WorkerPool], monkeypatch: pytest.MonkeyPatch) -> None:
    def read(position: int) -> Sample:
        time.sleep(0.5 if position == 0 else 0)
        return make_sample(position)

    monkeypatch.setattr(workers, "HEARTBEAT_SECONDS", 0.05)
    monkeypatch.setattr(workers, "NOTICE_SECONDS", 0.2)
    pool, said = make_pool(read, 1), []
    pool.notify = said.append
    assert list_positions(pool.start_pass(BATCHES)) == BATCHES
    assert said and "0.png" in said[0]


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EAGAIN, errno.ENOMEM])
@pytest.mark.parametrize("place", ["os.fork", "mmap.mmap"])
def test_a_system_that_refuses_processes_is_reported(
    make_pool: Callable[..., WorkerPool], monkeypatch: pytest.MonkeyPatch, place: str, number: int
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    pool = make_pool()
    with monkeypatch.context() as patch:
        patch.setattr(place, refuse)
        with pytest.raises(SegError) as caught:
            pool.start_pass(BATCHES)
    (found,) = caught.value.diagnostics
    assert found.slug == "workers-not-started" and os.strerror(number).lower() in found.message
    assert list_positions(pool.start_pass(BATCHES)) == BATCHES, "another try succeeds"


def test_workers_end_with_their_parent(tmp_path: Path) -> None:
    script = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_workers as t
pool = t.WorkerPool(t.make_sample, t.get_path, 2, t.BATCH_BYTES)
next(pool.start_pass(t.BATCHES))
print(*[worker.process.pid for worker in pool.workers], flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(pids) == 2
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < deadline, "a worker has outlived its parent"
        time.sleep(0.05)
