"""Checkpoint policy words: which checkpoints of a run are kept on disk."""

from __future__ import annotations

from typing import Annotated

from segdsl.diagnostics.aliases import Aliases
from segdsl.ir.families import Keeper
from segdsl.ir.fields import PositiveInt
from segdsl.words.schedules import Horizon, Interval


class Checkpoints(Keeper):
    """Keep the weights of the best epochs by the monitored score, and those of the last epoch."""

    aliases = ("model_checkpoint checkpoint checkpoint_hook",)
    number_form = "Checkpoints({})"

    best: Annotated[PositiveInt, Aliases("save_top_k max_keep_ckpts")] = 1
    """Number of best epochs to keep: `best.safetensors`, `best-2.safetensors`, …"""
    last: bool = True
    """Also keep the last epoch, with the state needed to resume the run."""
    every: Interval = None
    """Interval at which the state needed to resume is also saved within an epoch, such as `500 iters`; by default it is
    saved at the end of epochs only."""

    @property
    def can_resume(self) -> bool:
        """Whether the state needed to resume the run is ever saved."""
        return self.last or self.every is not None

    def is_due(self, step: int, horizon: Horizon) -> bool:
        """Return whether to save the resume state after ``step``, counted from 1 over the whole run."""
        # A fraction of an epoch can round to 0 steps; it then means every step.
        return self.every is not None and step % max(horizon.convert_to_steps(self.every), 1) == 0
