"""Timing of a run: elapsed time, images per second, and an estimate of the time left."""

from __future__ import annotations

import math
import time


class Clock:
    """Measures a run of at most ``epochs`` epochs that began at ``start_time`` (of `time.perf_counter`).

    A resumed run had completed ``epochs_before`` epochs in ``seconds_before`` seconds, and continues from there.
    """

    def __init__(self, epochs: int, started: float, done: float = 0.0, before: float = 0.0) -> None:
        self._epochs, self._started, self._loop = epochs, started - before, time.perf_counter()
        self._done = done
        self._epoch_started, self._cpu_started = self._loop, 0.0
        self._trained, self._images, self.cpu_seconds = 0.0, 0, 0.0
        self._waited_before, self._waited = 0.0, 0.0

    def start_epoch(self, waited: float = 0.0) -> None:
        """Start measuring an epoch; ``seconds_waited`` is how long the run has waited for data so far."""
        # Validation runs between two epochs and must not count as training, so each epoch starts from zero.
        self._epoch_started, self._cpu_started = time.perf_counter(), time.process_time()
        self._trained, self._images = 0.0, 0
        self._waited_before, self._waited = waited, waited

    def step(self, images: int, waited: float = 0.0) -> None:
        """Record a training step on ``images`` images."""
        self._images += images
        self._waited = waited
        self._trained = time.perf_counter() - self._epoch_started
        self.cpu_seconds = time.process_time() - self._cpu_started

    @property
    def seconds(self) -> float:
        """Seconds since the start of the run, preparation included, without the pauses before it was resumed."""
        return time.perf_counter() - self._started

    @property
    def training_seconds(self) -> float:
        """Wall time of this epoch's steps; ``cpu_seconds`` is the CPU time of all threads in it."""
        return self._trained

    @property
    def speed(self) -> float:
        """Training images per second in this epoch, loading included."""
        return self._images / self._trained if self._trained else 0.0

    @property
    def waiting(self) -> float:
        """Share of this epoch's training time that was spent waiting for data."""
        return (self._waited - self._waited_before) / self._trained if self._trained else 0.0

    def seconds_left(self, epochs_done: float) -> float:
        """Return the seconds until the last epoch at the pace so far; infinite before anything was done."""
        # Only what this process has done sets the pace: a resumed run may be on another machine.
        spent, epochs = time.perf_counter() - self._loop, epochs_done - self._done
        return spent / epochs * (self._epochs - epochs_done) if epochs > 0 else math.inf
