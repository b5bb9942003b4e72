"""Notes that a run prints after its first epochs, when it can see how training goes."""

from __future__ import annotations

import torch

from segdsl.run.console.display import Display
from segdsl.run.engine.clock import Clock
from segdsl.run.engine.setup import Setup
from segdsl.run.engine.threads import format_crowding_advice, is_crowded
from segdsl.run.folder.log import EpochRow

NOTABLE_WAITING_SHARE = 0.1
"""Share of the training time from which on waiting for data is worth a note."""


def format_clip_note(row: EpochRow, clip: float | None) -> str:
    """Return the note for the first epoch in which gradients were clipped."""
    share = f"{row.clipped:.0%} of the steps of epoch {row.epoch}"
    details = f"(mean norm {row.grad_norm:.2g}); metrics.csv has both values for every epoch"
    return f"gradients exceeded `train.clip = {clip}` and were clipped in {share} {details}"


def note_crowding(setup: Setup, display: Display, clock: Clock) -> None:
    """Print a note if other programs, or too many of the run's own processes, slow down training on a CPU."""
    if setup.device.type != "cpu":
        return
    if is_crowded(clock.cpu_seconds, clock.training_seconds, torch.get_num_threads()):
        display.show_note(format_crowding_advice(setup.program.data.train.workers))


def format_data_wait_note(setup: Setup, waiting_share: float) -> str:
    """Return the note for a run that loads data too slowly."""
    # Measured in the second epoch: in the first, workers are still starting and the cache is still empty.
    workers = setup.program.data.train.workers
    return (
        f"{waiting_share:.0%} of training time is spent waiting for data; use more workers (`data.train.workers` is "
        f"{workers}), cache more in memory (`data.cache`), or store smaller images"
    )
