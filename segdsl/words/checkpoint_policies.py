"""Checkpoint policy words: which checkpoints of a run are kept on disk."""

from __future__ import annotations

from segdsl.ir.families import Keeper
from segdsl.words.schedules import Horizon, Interval


class Checkpoints(Keeper):
    """Keep the weights of the best epochs by the monitored score, and those of the last epoch."""

    aliases = ("model_checkpoint checkpoint checkpoint_hook",)
    number_form = "Checkpoints({})"

    every: Interval = None
    """Interval at which the state needed to resume is also saved within an epoch, such as `500 iters`; by default it is
    saved at the end of epochs only."""

    @property
    def can_resume(self) -> bool:
        return self.last or self.every is not None

    def is_due(self, step: int, horizon: Horizon) -> bool:
        # A fraction of an epoch can round to 0 steps; it then means every step.
        return self.every is not None and step % max(horizon.convert_to_steps(self.every), 1) == 0
