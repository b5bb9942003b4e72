"""Stopper words: rules that end a run before its last epoch, as pure functions of the monitored score's history."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from segdsl.diagnostics.aliases import Aliases
from segdsl.ir.families import Stopper
from segdsl.ir.fields import NaturalFloat
from segdsl.ir.values import Horizon, Quantity
from segdsl.words.schedules import NaturalDuration, PositiveDuration, count_epochs_before, is_improvement


class EarlyStopping(Stopper):
    """End the run when the monitored score has not improved for `patience`."""

    aliases = ("early_stopping_hook early_stopping_callback",)
    number_form = "EarlyStopping(patience = {} epochs)"

    min_delta: Annotated[NaturalFloat, Aliases("threshold delta tolerance")] = 1e-3
    """Smallest improvement that counts."""
    patience: PositiveDuration = Quantity(10, "epochs")
    """How long to wait for an improvement."""
    after: NaturalDuration = Quantity(0, "iters")
    """Start of the count: epochs that end earlier are not considered."""

    def get_patience(self) -> Quantity | None:
        return self.patience

    def get_start(self) -> Quantity | None:
        return self.after

    def describe_stop(self, monitor: str) -> str:
        return f"{monitor} did not improve for {self.patience}"

    def should_stop(self, history: Sequence[float], horizon: Horizon) -> bool:
        best, stale = None, 0
        for value in history[count_epochs_before(horizon.convert_to_steps(self.after), horizon) :]:
            if is_improvement(value, best, self.min_delta):
                best, stale = value, 0
            else:
                # Count in steps, not epochs, because `patience` may be given in either unit.
                stale += horizon.steps_per_epoch
        return stale > 0 and stale >= horizon.convert_to_steps(self.patience)
