"""Learning-rate schedules: pure functions of the step, so that a runner, a test and an editor see the same curve.

A chain `Warmup(100 iters) -> Poly()` is a tuple of laws, each beginning where the one before ends. A law gives a factor
of the optimizer's rate. What it may depend on besides the step is the history of the monitored value, one number for
each finished epoch, oriented so that larger is better.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, NamedTuple, cast

from annotated_types import Gt, Lt
from pydantic import AfterValidator, model_validator

from segdsl.ir.program import NaturalFloat, PositiveFloat, Probability, Schedule
from segdsl.ir.values import Quantity, Units


def _positive(length: Quantity) -> Quantity:
    if not length.value > 0:
        raise ValueError(f"a length of training is above 0, got `{length}`")
    return length


def _natural(length: Quantity) -> Quantity:
    if not length.value >= 0:
        raise ValueError(f"a length of training is 0 or more, got `{length}`")
    return length


TRAINING_UNITS = Units(("iters", "epochs"))
PositiveDuration = Annotated[Quantity, TRAINING_UNITS, AfterValidator(_positive)]
"""A length of training above 0."""
NaturalDuration = Annotated[Quantity, TRAINING_UNITS, AfterValidator(_natural)]
"""A length of training, 0 included."""
Shrink = Annotated[float, Gt(0), Lt(1)]


class Horizon(NamedTuple):
    """How long a run is at most: its epochs, and the optimizer steps in each."""

    steps_per_epoch: int
    epochs: int

    @property
    def total(self) -> int:
        """Steps of the whole run."""
        return self.steps_per_epoch * self.epochs

    def steps(self, length: Quantity) -> int:
        """A duration in steps, rounded to the nearest."""
        return round(length.value * (self.steps_per_epoch if length.unit == "epochs" else 1))


class Law(Schedule, abstract=True):
    """What every schedule defines: where it ends, and by what it scales the rate at a step."""

    def ends(self, start: int, horizon: Horizon) -> int | None:
        """The step at which the next law takes over when this one begins at ``start``; None if it has no end."""
        raise NotImplementedError

    def scale(self, step: int, start: int, horizon: Horizon, history: Sequence[float]) -> float:
        """What the base rate is multiplied by at ``step`` (counted from 0 at the start of the run, ``step >= start``).

        ``history`` holds the monitored value of at least every epoch that ended by ``step``.
        """
        raise NotImplementedError


class Constant(Law):
    """The optimizer's own rate."""

    over: PositiveDuration | None = None
    """How long; left out, until the end."""

    def ends(self, start: int, horizon: Horizon) -> int | None:
        return None if self.over is None else start + horizon.steps(self.over)

    def scale(self, step: int, start: int, horizon: Horizon, history: Sequence[float]) -> float:
        return 1.0


class Warmup(Law):
    """Rises linearly: step k of n (from 0) has (k + 1) / n of the rate."""

    over: PositiveDuration
    """How long the rise takes."""

    def ends(self, start: int, horizon: Horizon) -> int | None:
        return start + horizon.steps(self.over)

    def scale(self, step: int, start: int, horizon: Horizon, history: Sequence[float]) -> float:
        return min((step - start + 1) / max(horizon.steps(self.over), 1), 1.0)


class Poly(Law):
    """Falls to 0 as (1 - progress) ** power (Chen et al., DeepLab, section 4.1), step by step."""

    power: PositiveFloat = 0.9
    """1 is a straight line; larger falls faster at first."""
    over: PositiveDuration | None = None
    """How long the fall takes, after which the rate is 0; left out, the rest of the run."""

    def ends(self, start: int, horizon: Horizon) -> int | None:
        return None if self.over is None else start + horizon.steps(self.over)

    def scale(self, step: int, start: int, horizon: Horizon, history: Sequence[float]) -> float:
        return (1.0 - _progress(self.over, step, start, horizon)) ** self.power


class Cosine(Law):
    """Falls along half a cosine (Loshchilov and Hutter, SGDR, equation 5), step by step."""

    over: PositiveDuration | None = None
    """How long the fall takes, after which the rate stays at `floor`; left out, the rest of the run."""
    floor: Probability = 0.0
    """Share of the rate that is left at the end."""

    def ends(self, start: int, horizon: Horizon) -> int | None:
        return None if self.over is None else start + horizon.steps(self.over)

    def scale(self, step: int, start: int, horizon: Horizon, history: Sequence[float]) -> float:
        progress = _progress(self.over, step, start, horizon)
        return self.floor + (1.0 - self.floor) * (1.0 + math.cos(math.pi * progress)) / 2.0


class Step(Law):
    """Falls in steps: by `factor` at each of the `milestones`, or `every` so often; between them the rate stays."""

    milestones: tuple[PositiveDuration, ...] = ()
    """When it falls, counted from where this schedule begins: `[30 epochs, 60 epochs]`."""
    every: PositiveDuration | None = None
    """How long it stays each time, in place of `milestones`."""
    factor: Shrink = 0.1
    """What the rate is multiplied by."""
    over: PositiveDuration | None = None
    """How long; left out, until the end."""

    @model_validator(mode="after")
    def _is_told_when(self) -> Step:
        if bool(self.milestones) == (self.every is not None):
            raise ValueError("`Step` takes `milestones` or `every`, one of them")
        for one, next_ in pairwise(self.milestones):
            if one.unit == next_.unit and one.value >= next_.value:
                raise ValueError(f"`milestones` rise, and `{next_}` follows `{one}`")
        for length in (*self.milestones, self.every):
            if self.over and length and length.unit == self.over.unit and length.value >= self.over.value:
                raise ValueError(f"`Step` ends after `{self.over}`, and would fall after `{length}`")
        return self

    def ends(self, start: int, horizon: Horizon) -> int | None:
        return None if self.over is None else start + horizon.steps(self.over)

    def scale(self, step: int, start: int, horizon: Horizon, history: Sequence[float]) -> float:
        if self.every is not None:
            return self.factor ** ((step - start) // max(horizon.steps(self.every), 1))
        return self.factor ** sum(step - start >= horizon.steps(milestone) for milestone in self.milestones)


class ReduceOnPlateau(Law):
    """Lowers the rate when the monitored value has not improved for longer than `patience`.

    Only epochs that end after this schedule began count. After a reduction the patience starts anew; the best value
    stays.
    """

    factor: Shrink = 0.1
    """What the rate is multiplied by."""
    patience: NaturalDuration = Quantity(4, "epochs")
    """How long the value may fail to improve: with `4 epochs` the rate falls after the fifth in a row."""
    threshold: NaturalFloat = 1e-4
    """Share of the best value by which a new one must be better to count."""

    def ends(self, start: int, horizon: Horizon) -> int | None:
        return None

    def scale(self, step: int, start: int, horizon: Horizon, history: Sequence[float]) -> float:
        finished = min(step // horizon.steps_per_epoch, len(history))
        best, stale, reductions = None, 0, 0
        for value in history[epochs_before(start, horizon) : finished]:
            if improves(value, best, self.threshold * abs(best or 0.0)):
                best, stale = value, 0
            else:
                stale += horizon.steps_per_epoch
            if stale > horizon.steps(self.patience):
                reductions, stale = reductions + 1, 0
        return self.factor**reductions


def scale_at(chain: Sequence[Schedule], step: int, horizon: Horizon, history: Sequence[float] = ()) -> float:
    """What a chain of schedules multiplies the base rate by at ``step``; an empty chain leaves it as it is.

    ``history`` is the monitored value after each epoch, larger being better; values of later epochs are not looked at.
    """
    start = 0
    for number, law in enumerate(cast("Sequence[Law]", chain), start=1):
        end = law.ends(start, horizon)
        if end is None or step < end or number == len(chain):
            return law.scale(step, start, horizon, history)
        start = end
    return 1.0


class Stretch(NamedTuple):
    """The steps ``start`` to ``end`` (not included) of a run, over which one law of a chain holds."""

    law: Schedule
    start: int
    end: int


def stretches(chain: Sequence[Schedule], horizon: Horizon) -> list[Stretch]:
    """Where each law of a chain holds in a run; without those that begin after its end, and those without a step."""
    found, start = list[Stretch](), 0
    for number, law in enumerate(cast("Sequence[Law]", chain), start=1):
        end = law.ends(start, horizon)
        last = end is None or end >= horizon.total or number == len(chain)
        stop = horizon.total if last or end is None else end
        if stop > start:
            found.append(Stretch(law, start, stop))
        if last:
            break
        start = stop
    return found


def endless(chain: Sequence[Schedule]) -> Schedule | None:
    """The first schedule of a chain that never ends although another follows it, or None."""
    horizon = Horizon(1, 1)
    return next((law for law in cast("Sequence[Law]", chain[:-1]) if law.ends(0, horizon) is None), None)


def epochs_before(step: int, horizon: Horizon) -> int:
    """How many epochs end before ``step``."""
    return max(-(-step // horizon.steps_per_epoch) - 1, 0)


def improves(value: float, best: float | None, margin: float) -> bool:
    """Whether ``value`` is better than ``best`` by more than ``margin``; nan never is."""
    return not math.isnan(value) and (best is None or value > best + margin)


def _progress(over: Quantity | None, step: int, start: int, horizon: Horizon) -> float:
    length = horizon.total - start if over is None else horizon.steps(over)
    return min((step - start) / max(length, 1), 1.0)
