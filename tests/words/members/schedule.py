"""A schedule that segdsl does not have."""

from __future__ import annotations

from collections.abc import Sequence

from segdsl.ir.families import Schedule
from segdsl.ir.values import Horizon
from segdsl.words.schedules import Length, Shrink


class Exponential(Schedule):
    """Multiply the learning rate by `factor` in every epoch."""

    aliases = ("exponential_lr exp_decay",)

    factor: Shrink = 0.9
    """Factor for the learning rate."""
    over: Length | None = None
    """Duration; until the end of the run by default."""

    def compute_factor(self, step: int, start: int, horizon: Horizon, history: Sequence[float]) -> float:
        return self.factor ** ((step - start) / horizon.steps_per_epoch)
