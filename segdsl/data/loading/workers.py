"""Processes that make batches ahead of their use.

A batch comes back through memory that is mapped before the processes are forked, or else through a pipe. Neither needs
`/dev/shm`, a semaphore, or a file descriptor per batch, all of which containers limit. The main process knows what each
worker has been given, is woken when one ends, and looks after them while it waits: every wait comes to an end.
"""

from __future__ import annotations

import atexit
import errno
import multiprocessing
import multiprocessing.util
import os
import signal
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from segdsl.data.augment.sample import Sample
from segdsl.data.loading.batch_memory import Arrays, SharedMemory, Stored
from segdsl.data.loading.worker import Job, get_position, serve_batches
from segdsl.diagnostics import SegError, fail
from segdsl.text.listing import join_names

JOBS_PER_WORKER = 2
"""Batches that a worker makes ahead."""
HEARTBEAT_SECONDS = 1.0
"""Seconds between two looks at the workers while a batch is awaited."""
STOPPED_SECONDS = 10.0
"""Seconds that a worker may be stopped by a signal: a debugger or a shell lets it go on sooner."""
NOTICE_SECONDS = 30.0
"""Seconds between two notices that no batch has come."""
JOIN_SECONDS = 1.0
"""Seconds that workers have to end by themselves."""


class Worker:
    """A process that makes batches, and what it has been given to do."""

    def __init__(self, number: int, pool: WorkerPool) -> None:
        self.connection, theirs = multiprocessing.Pipe()
        self.jobs: list[Job] = []
        self.process = multiprocessing.Process(
            target=serve_batches, args=(theirs, pool.read_sample, pool.memory, number), daemon=True
        )
        try:
            self.process.start()
        except OSError:
            self.connection.close()
            raise
        finally:
            theirs.close()
        self.stopped_since: float | None = None

    def is_stopped(self) -> bool:
        """Return whether a signal has stopped the process, where the system tells (Linux)."""
        try:
            text = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return False
        # The name of the process comes before, in parentheses, and may hold blanks and parentheses.
        return text.rpartition(")")[2].split()[0] in ("T", "t")


class WorkerPool:
    """``count`` processes that call ``read_sample`` and stack the samples, a batch at a time.

    ``slot_bytes`` is the size of a batch, ``get_path`` names the file of a position for diagnostics. The processes
    start with the first pass and stay for the following ones. ``notify`` is called with a sentence while a batch is
    late.
    """

    def __init__(
        self, read_sample: Callable[[Any], Sample], get_path: Callable[[int], Path], count: int, slot_bytes: int
    ) -> None:
        self.read_sample, self.get_path, self.count = read_sample, get_path, count
        self.slot_bytes = slot_bytes
        self.notify: Callable[[str], None] | None = None
        self.memory: SharedMemory | None = None
        self.workers: list[Worker] = []
        self.current_pass: _Pass | None = None
        self._free_slots: list[int] = []
        _pools.add(self)

    def start_pass(self, batches: Sequence[list[Any]]) -> Iterator[Arrays]:
        """Start the workers on ``batches``, and return an iterator over them, in order. Any pass before is given up.

        A batch is valid until the next one is requested. Raises SegError for a bad file (its own diagnostics), for a
        worker that has ended or is stopped (`worker-died`, `worker-stopped`), and if the system has no room for the
        processes (`workers-not-started`).
        """
        self._start_workers()
        before = self.current_pass
        if before is not None:
            before.free_slots()
        self.current_pass = _Pass(self, batches, 0 if before is None else before.number + 1)
        self.current_pass.assign_jobs()
        return self.current_pass

    def close(self) -> None:
        """End the workers."""
        workers, self.workers, self.current_pass = self.workers, [], None
        for worker in workers:
            # A worker that waits for a job ends when its pipe is closed.
            worker.connection.close()
        deadline = time.monotonic() + JOIN_SECONDS
        for worker in workers:
            worker.process.join(max(deadline - time.monotonic(), 0))
            worker.process.kill()

    def __del__(self) -> None:
        self.close()

    def _start_workers(self) -> None:
        if self.workers:
            return
        slots = self.count * JOBS_PER_WORKER
        try:
            if multiprocessing.get_start_method() == "fork":
                self.memory = SharedMemory(slots, self.slot_bytes, self.count)
                self.memory.positions[:] = -1
            for number in range(self.count):
                self.workers.append(Worker(number, self))
        except (OSError, ValueError, OverflowError) as error:
            started = len(self.workers)
            self.close()
            raise _make_start_error(error, started, self.count) from error
        self._free_slots = list(range(slots))

    def send_job(self, pass_number: int, place: int, keys: list[Any]) -> bool:
        """Give a batch to the worker with the least to do; return whether there was room for it."""
        worker = min(self.workers, key=lambda w: len(w.jobs))
        if not self._free_slots or len(worker.jobs) >= JOBS_PER_WORKER:
            return False
        job = Job(pass_number, place, keys, self._free_slots.pop())
        worker.jobs.append(job)
        try:
            worker.connection.send(job)
        except OSError as error:
            raise self._make_death_error(worker) from error
        return True

    def receive_results(self) -> Iterator[tuple[Job, Any]]:
        """Wait for results, and yield the job and result of each; stop without one after a heartbeat."""
        by_connection = {worker.connection: worker for worker in self.workers}
        for connection in wait(list(by_connection), HEARTBEAT_SECONDS):
            worker = by_connection[connection]  # pyright: ignore[reportArgumentType]
            try:
                result = worker.connection.recv()
            except (OSError, EOFError) as error:
                raise self._make_death_error(worker) from error
            job = worker.jobs.pop(0)
            if isinstance(result, BaseException):
                raise result
            yield job, result

    def free_slot(self, slot: int) -> None:
        """Let the memory of a result be used again."""
        self._free_slots.append(slot)

    def check_workers(self) -> None:
        """Raise SegError (`worker-stopped`) if a worker with something to do has been stopped for long."""
        now = time.monotonic()
        for worker in self.workers:
            if not worker.jobs or not worker.is_stopped():
                worker.stopped_since = None
                continue
            worker.stopped_since = worker.stopped_since or now
            if now - worker.stopped_since >= STOPPED_SECONDS:
                pid = worker.process.pid
                raise fail(
                    "worker-stopped",
                    f"data-loader worker {pid} has been stopped by a signal for {STOPPED_SECONDS:.0f} s",
                    "find out what stopped it (a debugger, or `kill -STOP`), then start or resume the run",
                )

    def describe_delay(self, seconds: float) -> str:
        """Return a sentence for a wait of ``seconds``: what the workers are reading."""
        names = self._list_active_files(self.workers)
        return f"no batch for {seconds:.0f} s; " + (f"still reading {join_names(names)}" if names else "still waiting")

    def _list_active_files(self, workers: Sequence[Worker]) -> list[str]:
        """Return the files that these workers are reading, or all of their batches if that is not known."""
        if self.memory is not None:
            numbers = [self.workers.index(worker) for worker in workers]
            positions = [int(p) for p in self.memory.positions[numbers] if p >= 0]
        else:
            positions = [get_position(key) for worker in workers for job in worker.jobs[:1] for key in job.keys]
        return sorted({str(self.get_path(position)) for position in positions})

    def _make_death_error(self, worker: Worker) -> SegError:
        worker.process.join(JOIN_SECONDS)
        names = self._list_active_files([worker])
        code = worker.process.exitcode
        cause = f" by {signal.Signals(-code).name}" if code is not None and code < 0 else ""
        message = f"a data-loader worker was ended{cause}" if cause else "a data-loader worker ended unexpectedly"
        message += f" while reading {join_names(names)}" if names else ""
        help = "usually it ran out of memory: lower `data.train.workers`, `data.train.batch` or `data.cache`"
        return fail("worker-died", message, help + (", or check these files" if names else ""))


class _Pass(Iterator[Arrays]):
    """The batches of one pass, in order: results may come in any other."""

    def __init__(self, pool: WorkerPool, batches: Sequence[list[Any]], number: int) -> None:
        self.number = number
        self._pool, self._batches = pool, batches
        self._sent, self._taken = 0, 0
        self._results: dict[int, tuple[Job, Any]] = {}
        self._used_slot: int | None = None

    def assign_jobs(self) -> None:
        """Give the workers as much as they may have."""
        while self._sent < len(self._batches) and self._pool.send_job(
            self.number, self._sent, self._batches[self._sent]
        ):
            self._sent += 1

    def free_slots(self) -> None:
        """Let the memory of results that nobody has taken, and of the one in use, be used again."""
        for job, _ in self._results.values():
            self._pool.free_slot(job.slot)
        self._results.clear()
        self._free_used_slot()

    def _free_used_slot(self) -> None:
        if self._used_slot is not None:
            self._pool.free_slot(self._used_slot)
            self._used_slot = None

    def __next__(self) -> Arrays:
        if self._pool.current_pass is not self:
            raise RuntimeError("another pass over these batches has begun")
        self._free_used_slot()
        if self._taken == len(self._batches):
            raise StopIteration
        self.assign_jobs()
        job, result = self._await_result()
        self._taken += 1
        self._used_slot = job.slot
        if isinstance(result, Stored):
            assert self._pool.memory is not None
            return self._pool.memory.view_arrays(job.slot, result)
        if isinstance(result, Arrays):
            return result
        raise SegError(result)

    def _await_result(self) -> tuple[Job, Any]:
        start = noticed = time.monotonic()
        while self._taken not in self._results:
            received = False
            for job, result in self._pool.receive_results():
                received = True
                if job.pass_number == self.number:
                    self._results[job.place] = job, result
                else:
                    self._pool.free_slot(job.slot)
                    self.assign_jobs()
            if received:
                continue
            self._pool.check_workers()
            now = time.monotonic()
            if self._pool.notify is not None and now - noticed >= NOTICE_SECONDS:
                noticed = now
                self._pool.notify(self._pool.describe_delay(now - start))
        return self._results.pop(self._taken)


def _make_start_error(error: Exception, started: int, count: int) -> SegError:
    """Return the diagnostic for workers that could not be started, with what the system lacks."""
    number = error.errno if isinstance(error, OSError) else None
    reason = os.strerror(number).lower() if number else str(error)
    remedy = {
        errno.EMFILE: "raise the limit of open files of this shell (`ulimit -n 1024`)",
        errno.ENFILE: "close programs that hold many open files",
        errno.EAGAIN: "raise the limit of processes (`ulimit -u`)",
        errno.ENOMEM: "lower `data.train.batch`, or free memory",
    }.get(number or 0, "lower `data.train.workers`")
    return fail(
        "workers-not-started",
        f"data-loader worker {started + 1} of {count} could not be started: {reason}",
        f"{remedy}, or load images in the main process: `--set data.train.workers=0 --set data.val.workers=0`",
    )


_pools: weakref.WeakSet[WorkerPool] = weakref.WeakSet()


@atexit.register
def _close_pools() -> None:
    # Before multiprocessing, which asks its processes to end and waits for ever for one that is stopped.
    for pool in list(_pools):
        pool.close()
