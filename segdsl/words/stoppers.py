"""Stopper words: rules that end a run before its last epoch, as pure functions of the monitored score's history."""

from __future__ import annotations

from collections.abc import Sequence

from segdsl.ir.program import NaturalFloat, Stopper
from segdsl.ir.values import Quantity
from segdsl.words.schedules import Horizon, NaturalDuration, PositiveDuration, count_epochs_before, is_improvement


class EarlyStopping(Stopper):
    """End the run when the monitored score has not improved for `patience`."""

    min_delta: NaturalFloat = 1e-3
    """Smallest improvement that counts."""
    patience: PositiveDuration = Quantity(10, "epochs")
    """How long to wait for an improvement."""
    after: NaturalDuration = Quantity(0, "iters")
    """Start of the count: epochs that end earlier are not considered."""

    def should_stop(self, history: Sequence[float], horizon: Horizon) -> bool:
        """Return whether the run ends after these epochs.

        ``history`` is the monitored score of each epoch, oriented so that larger is better.
        """
        best, stale = None, 0
        for value in history[count_epochs_before(horizon.convert_to_steps(self.after), horizon) :]:
            if is_improvement(value, best, self.min_delta):
                best, stale = value, 0
            else:
                # Count in steps, not epochs, because `patience` may be given in either unit.
                stale += horizon.steps_per_epoch
        return stale > 0 and stale >= horizon.convert_to_steps(self.patience)
