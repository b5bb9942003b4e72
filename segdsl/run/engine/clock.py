"""Timing of a run: elapsed time, images per second, and an estimate of the time left."""

from __future__ import annotations

import math
import time


class Clock:
    """Measures a run of at most ``epochs`` epochs that began at ``start_time`` (of `time.perf_counter`).

    A resumed run had completed ``epochs_before`` epochs in ``seconds_before`` seconds, and continues from there.
    """

    def __init__(self, epochs: int, start_time: float, epochs_before: float = 0.0, seconds_before: float = 0.0) -> None:
        self._epochs, self._start_time, self._loop_start = epochs, start_time - seconds_before, time.perf_counter()
        self._epochs_before = epochs_before
        self._epoch_start, self._cpu_start = self._loop_start, 0.0
        self._epoch_training_seconds, self._epoch_images, self.cpu_seconds = 0.0, 0, 0.0
        self._seconds_waited_before, self._seconds_waited = 0.0, 0.0

    def start_epoch(self, seconds_waited: float = 0.0) -> None:
        """Start measuring an epoch; ``seconds_waited`` is how long the run has waited for data so far."""
        # Validation runs between two epochs and must not count as training, so each epoch starts from zero.
        self._epoch_start, self._cpu_start = time.perf_counter(), time.process_time()
        self._epoch_training_seconds, self._epoch_images = 0.0, 0
        self._seconds_waited_before, self._seconds_waited = seconds_waited, seconds_waited

    def record_step(self, images: int, seconds_waited: float = 0.0) -> None:
        """Record a training step on ``images`` images."""
        self._epoch_images += images
        self._seconds_waited = seconds_waited
        self._epoch_training_seconds = time.perf_counter() - self._epoch_start
        self.cpu_seconds = time.process_time() - self._cpu_start

    @property
    def total_seconds(self) -> float:
        """Seconds since the start of the run, preparation included, without the pauses before it was resumed."""
        return time.perf_counter() - self._start_time

    @property
    def training_seconds(self) -> float:
        """Wall time of this epoch's steps; ``cpu_seconds`` is the CPU time of all threads in it."""
        return self._epoch_training_seconds

    @property
    def images_per_second(self) -> float:
        """Training images per second in this epoch, loading included."""
        return self._epoch_images / self._epoch_training_seconds if self._epoch_training_seconds else 0.0

    @property
    def waiting_share(self) -> float:
        """Share of this epoch's training time that was spent waiting for data."""
        return (
            (self._seconds_waited - self._seconds_waited_before) / self._epoch_training_seconds
            if self._epoch_training_seconds
            else 0.0
        )

    def estimate_seconds_left(self, epochs_done: float) -> float:
        """Return the seconds until the last epoch at the pace so far; infinite before anything was done."""
        # Only what this process has done sets the pace: a resumed run may be on another machine.
        spent, epochs = time.perf_counter() - self._loop_start, epochs_done - self._epochs_before
        return spent / epochs * (self._epochs - epochs_done) if epochs > 0 else math.inf
