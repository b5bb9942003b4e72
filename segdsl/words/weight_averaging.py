"""Averagers: how the weights of a run are averaged over its steps. Each is realised in ``segdsl/run/engine/ema.py``."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Lt

from segdsl.ir.program import Averager


class EMA(Averager):
    """Exponential moving average of the weights over the optimizer steps (Tarvainen and Valpola, Mean Teacher, 2017).

    The statistics of normalisations are averaged as the weights are; counters are the last ones.
    """

    decay: Annotated[float, Ge(0), Lt(1)] = 0.999
    """Share of the average that stays in a step: 0.999 looks back over about 1000 steps."""
    ramp: Annotated[float, Ge(1)] = 10.0
    """After k steps the decay is at most (1 + k) / (ramp + k), which forgets the start sooner; 1 turns it off."""

    def decay_at(self, updates: int) -> float:
        """The decay of the next update after so many (the ramp of TensorFlow's `ExponentialMovingAverage`)."""
        return min(self.decay, (1 + updates) / (self.ramp + updates))
