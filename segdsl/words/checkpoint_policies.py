"""Keepers: which checkpoints of a run stay on disk."""

from __future__ import annotations

from segdsl.ir.program import Keeper, PositiveInt
from segdsl.words.schedules import Horizon, PositiveDuration


class Checkpoints(Keeper):
    """Keeps the weights of the best epochs by the monitored value, and those of the last one."""

    best: PositiveInt = 1
    """How many of the best epochs stay: `best.safetensors`, `best-2.safetensors`, …"""
    last: bool = True
    """Keep the last epoch too, with what is needed to go on."""
    every: PositiveDuration | None = None
    """How often what is needed to go on is written between the ends of epochs too: `500 iters`; left out, never."""

    @property
    def keeps_state(self) -> bool:
        """Whether what is needed to go on is ever written."""
        return self.last or self.every is not None

    def is_due(self, step: int, horizon: Horizon) -> bool:
        """Whether what is needed to go on is written after this step of the run, counted from 1."""
        return self.every is not None and step % max(horizon.steps(self.every), 1) == 0
