"""Learning-rate schedule words, as pure functions of the step, so that training, tests and editors see the same curve.

A chain such as `Warmup(100 iters) -> Poly()` is a tuple of laws; each begins at the step where the previous one ends. A
law returns a factor for the optimizer's learning rate. Besides the step it may depend on the history of the monitored
score: one number per finished epoch, oriented so that larger is better.
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


def _check_positive(length: Quantity) -> Quantity:
    if not length.value > 0:
        raise ValueError("must be above 0")
    return length


def _check_not_negative(length: Quantity) -> Quantity:
    if not length.value >= 0:
        raise ValueError("must be 0 or more")
    return length


TRAINING_UNITS = Units(("iters", "epochs"))
PositiveDuration = Annotated[Quantity, TRAINING_UNITS, AfterValidator(_check_positive)]
"""A training duration above 0, in steps or epochs."""
NaturalDuration = Annotated[Quantity, TRAINING_UNITS, AfterValidator(_check_not_negative)]
"""A training duration of 0 or more, in steps or epochs."""
Shrink = Annotated[float, Gt(0), Lt(1)]


class Horizon(NamedTuple):
    """The maximum length of a run: optimizer steps per epoch, and epochs."""

    steps_per_epoch: int
    epochs: int

    @property
    def total_steps(self) -> int:
        """The number of steps of the whole run."""
        return self.steps_per_epoch * self.epochs

    def convert_to_steps(self, length: Quantity) -> int:
        """Return a duration in steps, rounded to the nearest integer."""
        return round(length.value * (self.steps_per_epoch if length.unit == "epochs" else 1))


class Law(Schedule, abstract=True):
    """The interface of every schedule: the step at which it ends, and its factor at each step."""

    def compute_end(self, start: int, horizon: Horizon) -> int | None:
        """Return the step at which the next law takes over if this one begins at ``start``, or None if it never
        ends."""
        raise NotImplementedError

    def compute_factor(self, step: int, start: int, horizon: Horizon, history: Sequence[float]) -> float:
        """Return the factor for the base learning rate at ``step``, counted from 0 over the whole run (``step >=
        start``).

        ``history`` has the monitored score of at least every epoch that ended by ``step``.
        """
        raise NotImplementedError


class Constant(Law):
    """Keep the optimizer's learning rate."""

    over: PositiveDuration | None = None
    """Duration; until the end of the run by default."""

    def compute_end(self, start: int, horizon: Horizon) -> int | None:
        return None if self.over is None else start + horizon.convert_to_steps(self.over)

    def compute_factor(self, step: int, start: int, horizon: Horizon, history: Sequence[float]) -> float:
        return 1.0


class Warmup(Law):
    """Increase the learning rate linearly: step k of n, counted from 0, has (k + 1) / n of the rate."""

    over: PositiveDuration
    """Duration of the increase."""

    def compute_end(self, start: int, horizon: Horizon) -> int | None:
        return start + horizon.convert_to_steps(self.over)

    def compute_factor(self, step: int, start: int, horizon: Horizon, history: Sequence[float]) -> float:
        # The first step already has a rate above 0: a step with rate 0 would be wasted.
        return min((step - start + 1) / max(horizon.convert_to_steps(self.over), 1), 1.0)


class Poly(Law):
    """Decrease the learning rate to 0 as (1 - progress) ** power, step by step (Chen et al., DeepLab, section 4.1)."""

    power: PositiveFloat = 0.9
    """Exponent: 1 is a straight line; larger values decrease faster at first."""
    over: PositiveDuration | None = None
    """Duration of the decrease, after which the rate is 0; the rest of the run by default."""

    def compute_end(self, start: int, horizon: Horizon) -> int | None:
        return None if self.over is None else start + horizon.convert_to_steps(self.over)

    def compute_factor(self, step: int, start: int, horizon: Horizon, history: Sequence[float]) -> float:
        return (1.0 - _compute_progress(self.over, step, start, horizon)) ** self.power


class Cosine(Law):
    """Decrease the learning rate along half a cosine, step by step (Loshchilov and Hutter, SGDR, equation 5)."""

    over: PositiveDuration | None = None
    """Duration of the decrease, after which the rate stays at `floor`; the rest of the run by default."""
    floor: Probability = 0.0
    """Share of the learning rate that remains at the end."""

    def compute_end(self, start: int, horizon: Horizon) -> int | None:
        return None if self.over is None else start + horizon.convert_to_steps(self.over)

    def compute_factor(self, step: int, start: int, horizon: Horizon, history: Sequence[float]) -> float:
        progress = _compute_progress(self.over, step, start, horizon)
        return self.floor + (1.0 - self.floor) * (1.0 + math.cos(math.pi * progress)) / 2.0


class Step(Law):
    """Multiply the learning rate by `factor` at each of the `milestones`, or at regular intervals (`every`); it is
    constant in between."""

    milestones: tuple[PositiveDuration, ...] = ()
    """Times of the drops, counted from the start of this schedule: `[30 epochs, 60 epochs]`."""
    every: PositiveDuration | None = None
    """Interval between drops; use it instead of `milestones`."""
    factor: Shrink = 0.1
    """Factor for the learning rate at each drop."""
    over: PositiveDuration | None = None
    """Duration; until the end of the run by default."""

    @model_validator(mode="after")
    def _check_fall_times(self) -> Step:
        if bool(self.milestones) == (self.every is not None):
            raise ValueError("`Step` takes either `milestones` or `every`")
        # Durations in different units cannot be compared here: the number of steps per epoch is not known yet.
        for one, next_ in pairwise(self.milestones):
            if one.unit == next_.unit and one.value >= next_.value:
                raise ValueError(f"`milestones` are not in ascending order: `{next_}` follows `{one}`")
        for length in (*self.milestones, self.every):
            if self.over and length and length.unit == self.over.unit and length.value >= self.over.value:
                raise ValueError(f"`Step` ends after `{self.over}`, before its drop after `{length}`")
        return self

    def compute_end(self, start: int, horizon: Horizon) -> int | None:
        return None if self.over is None else start + horizon.convert_to_steps(self.over)

    def compute_factor(self, step: int, start: int, horizon: Horizon, history: Sequence[float]) -> float:
        if self.every is not None:
            return self.factor ** ((step - start) // max(horizon.convert_to_steps(self.every), 1))
        return self.factor ** sum(step - start >= horizon.convert_to_steps(milestone) for milestone in self.milestones)


class ReduceOnPlateau(Law):
    """Reduce the learning rate when the monitored score has not improved for longer than `patience`.

    Only epochs that end after the start of this schedule count. After a reduction, `patience` starts again and the best
    score is kept.
    """

    factor: Shrink = 0.1
    """Factor for the learning rate at each reduction."""
    patience: NaturalDuration = Quantity(4, "epochs")
    """How long the score may fail to improve: with `4 epochs`, the rate is reduced after the fifth epoch in a row
    without an improvement."""
    threshold: NaturalFloat = 1e-4
    """Smallest improvement that counts, as a share of the best score."""

    def compute_end(self, start: int, horizon: Horizon) -> int | None:
        return None

    def compute_factor(self, step: int, start: int, horizon: Horizon, history: Sequence[float]) -> float:
        # A resumed run has the whole history; later epochs must not influence the factor of an earlier step.
        finished = min(step // horizon.steps_per_epoch, len(history))
        best, stale, reductions = None, 0, 0
        for value in history[count_epochs_before(start, horizon) : finished]:
            if is_improvement(value, best, self.threshold * abs(best or 0.0)):
                best, stale = value, 0
            else:
                stale += horizon.steps_per_epoch
            if stale > horizon.convert_to_steps(self.patience):
                reductions, stale = reductions + 1, 0
        return self.factor**reductions


def compute_rate_factor(chain: Sequence[Schedule], step: int, horizon: Horizon, history: Sequence[float] = ()) -> float:
    """Return the factor for the base learning rate at ``step`` under a chain of schedules; 1 for an empty chain.

    ``history`` is the monitored score after each epoch, larger being better; scores of epochs after ``step`` are
    ignored.
    """
    start = 0
    for number, law in enumerate(cast("Sequence[Law]", chain), start=1):
        end = law.compute_end(start, horizon)
        # The last law also covers the steps after its end, so the rate is always defined.
        if end is None or step < end or number == len(chain):
            return law.compute_factor(step, start, horizon, history)
        start = end
    return 1.0


class SchedulePhase(NamedTuple):
    """The steps ``start`` to ``end`` (exclusive) of a run, during which one law of a chain applies."""

    law: Schedule
    start: int
    end: int


def list_phases(chain: Sequence[Schedule], horizon: Horizon) -> list[SchedulePhase]:
    """Return the phase of each law of a chain within a run; laws that get no step are left out."""
    found, start = list[SchedulePhase](), 0
    for number, law in enumerate(cast("Sequence[Law]", chain), start=1):
        end = law.compute_end(start, horizon)
        last = end is None or end >= horizon.total_steps or number == len(chain)
        stop = horizon.total_steps if last or end is None else end
        if stop > start:
            found.append(SchedulePhase(law, start, stop))
        if last:
            break
        start = stop
    return found


def find_endless_schedule(chain: Sequence[Schedule]) -> Schedule | None:
    """Return the first schedule of a chain that never ends although another follows it, or None."""
    # Whether a law ends does not depend on the length of the run.
    horizon = Horizon(1, 1)
    return next((law for law in cast("Sequence[Law]", chain[:-1]) if law.compute_end(0, horizon) is None), None)


def count_epochs_before(step: int, horizon: Horizon) -> int:
    """Return the number of epochs that end before ``step``."""
    return max(-(-step // horizon.steps_per_epoch) - 1, 0)


def is_improvement(value: float, best: float | None, margin: float) -> bool:
    """Return whether ``value`` exceeds ``best`` by more than ``margin``; NaN never does."""
    return not math.isnan(value) and (best is None or value > best + margin)


def _compute_progress(over: Quantity | None, step: int, start: int, horizon: Horizon) -> float:
    length = horizon.total_steps - start if over is None else horizon.convert_to_steps(over)
    return min((step - start) / max(length, 1), 1.0)
