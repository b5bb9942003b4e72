"""What a run says of itself once it has made an epoch or two."""

from __future__ import annotations

import torch

from segdsl.run.console.display import Display
from segdsl.run.engine.clock import Clock
from segdsl.run.engine.setup import Setup
from segdsl.run.engine.threads import advice, is_crowded
from segdsl.run.folder.log import EpochRow

MUCH_WAITING = 0.1
"""Share of the training time from which on waiting for data is worth a word."""


def bite(row: EpochRow, clip: float | None) -> str:
    """What is said the first time that a gradient was clipped."""
    share = f"{row.clipped:.0%} of the steps of epoch {row.epoch}"
    means = f"(mean length {row.grad_norm:.2g}); metrics.csv has both of every epoch"
    return f"the gradient was longer than `train.clip = {clip}` in {share} and cut to it {means}"


def advise(setup: Setup, display: Display, clock: Clock) -> None:
    """Says so where other programs, or too many of its own processes, keep a run on a CPU from training."""
    if setup.device.type != "cpu":
        return
    if is_crowded(clock.cpu_seconds, clock.training_seconds, torch.get_num_threads()):
        display.note(advice(setup.program.data.train.workers))


def late_data(setup: Setup, share: float) -> str:
    """What to do where loading is too slow, once the processes have started and the cache is filled."""
    workers = setup.program.data.train.workers
    return (
        f"{share:.0%} of the training is waiting for data; load with more processes (`data.train.workers` is "
        f"{workers}), keep more in memory (`data.cache`), or store smaller images"
    )
