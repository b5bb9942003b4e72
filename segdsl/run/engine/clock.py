"""The times of a run: since its start, images a second, and a forecast of what is left."""

from __future__ import annotations

import math
import time


class Clock:
    """Measures a run of at most ``epochs`` epochs that began at ``started`` (of `time.perf_counter`).

    A run that goes on had ``done`` epochs and ``before`` seconds when it was left, and goes on from there.
    """

    def __init__(self, epochs: int, started: float, done: float = 0.0, before: float = 0.0) -> None:
        self._epochs, self._started, self._loop = epochs, started - before, time.perf_counter()
        self._done = done
        self._epoch_started, self._cpu_started = self._loop, 0.0
        self._trained, self._images, self.cpu_seconds = 0.0, 0, 0.0
        self._waited_before, self._waited = 0.0, 0.0

    def start_epoch(self, waited: float = 0.0) -> None:
        """Training begins anew; validation between epochs does not count as training. ``waited`` are the seconds that
        the run has waited for data up to now."""
        self._epoch_started, self._cpu_started = time.perf_counter(), time.process_time()
        self._trained, self._images = 0.0, 0
        self._waited_before, self._waited = waited, waited

    def step(self, images: int, waited: float = 0.0) -> None:
        """A training step on so many images has ended."""
        self._images += images
        self._waited = waited
        self._trained = time.perf_counter() - self._epoch_started
        self.cpu_seconds = time.process_time() - self._cpu_started

    @property
    def seconds(self) -> float:
        """Since the start of the run, preparation included, without the times between its parts."""
        return time.perf_counter() - self._started

    @property
    def training_seconds(self) -> float:
        """Wall time of this epoch's steps; ``cpu_seconds`` is what all threads of this process spent in it."""
        return self._trained

    @property
    def speed(self) -> float:
        """Training images a second in this epoch, loading included."""
        return self._images / self._trained if self._trained else 0.0

    @property
    def waiting(self) -> float:
        """The share of this epoch's training in which it waited for data."""
        return (self._waited - self._waited_before) / self._trained if self._trained else 0.0

    def seconds_left(self, epochs_done: float) -> float:
        """Until the last epoch, if all take as long as those so far; infinite before anything is done here."""
        spent, here = time.perf_counter() - self._loop, epochs_done - self._done
        return spent / here * (self._epochs - epochs_done) if here > 0 else math.inf
