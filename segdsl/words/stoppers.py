"""Stoppers: rules that end a run before its last epoch, as pure functions of the monitored value's history."""

from __future__ import annotations

from collections.abc import Sequence

from segdsl.ir.program import NaturalFloat, Stopper
from segdsl.ir.values import Quantity
from segdsl.words.schedules import Horizon, NaturalDuration, PositiveDuration, epochs_before, improves


class EarlyStopping(Stopper):
    """Ends the run when the monitored value has not improved for `patience`."""

    min_delta: NaturalFloat = 1e-3
    """What a value must be better by to count as an improvement."""
    patience: PositiveDuration = Quantity(10, "epochs")
    """How long to wait for an improvement."""
    after: NaturalDuration = Quantity(0, "iters")
    """Epochs that end before this are not looked at."""

    def stops(self, history: Sequence[float], horizon: Horizon) -> bool:
        """Whether a run ends after these epochs; ``history`` is the monitored value of each, larger being better."""
        best, stale = None, 0
        for value in history[epochs_before(horizon.steps(self.after), horizon) :]:
            if improves(value, best, self.min_delta):
                best, stale = value, 0
            else:
                stale += horizon.steps_per_epoch
        return stale > 0 and stale >= horizon.steps(self.patience)
