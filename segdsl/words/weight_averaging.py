"""Weight-averaging words: how the weights of a run are averaged over its steps.

``segdsl/run/engine/ema.py`` implements them.
"""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Lt

from segdsl.diagnostics.aliases import Aliases
from segdsl.ir.families import Averager


class EMA(Averager):
    """Exponential moving average of the weights over the optimizer steps (Tarvainen and Valpola, Mean Teacher, 2017).

    The statistics of normalization layers are averaged like weights; integer counters are copied from the last step.
    """

    aliases = ("model_ema ema_hook exponential_moving_average",)
    number_form = "EMA({})"

    decay: Annotated[float, Ge(0), Lt(1), Aliases("ema_decay")] = 0.999
    """Share of the average that is kept in each step: 0.999 averages over about the last 1000 steps."""
    ramp: Annotated[float, Ge(1)] = 10.0
    """Limits the decay after k steps to (1 + k) / (ramp + k), so that the random initial weights are forgotten sooner;
    1 turns the limit off."""

    def compute_decay(self, updates: int) -> float:
        # The ramp of TensorFlow's `ExponentialMovingAverage`.
        return min(self.decay, (1 + updates) / (self.ramp + updates))
