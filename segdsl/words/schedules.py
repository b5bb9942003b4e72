"""Learning-rate schedule words, as pure functions of the step, so that training, tests and editors see the same curve.

A chain such as `Warmup(100 iters) -> Poly()` is a tuple of laws; each begins at the step where the previous one ends. A
law returns a factor for the optimizer's learning rate. Besides the step it may depend on the history of the monitored
score: one number per finished epoch, oriented so that larger is better.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, NamedTuple

from annotated_types import Gt, Lt
from pydantic import AfterValidator, model_validator

from segdsl.diagnostics.aliases import Aliases
from segdsl.ir.families import Schedule
from segdsl.ir.fields import NaturalFloat, PositiveFloat, Probability
from segdsl.ir.values import Horizon, Quantity, Units


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
Length = Annotated[
    PositiveDuration,
    Aliases("warmup_epochs warmup_iters warmup_steps total_iters t_max max_iters num_steps epochs iters steps"),
]
Shrink = Annotated[float, Gt(0), Lt(1), Aliases("gamma")]
Interval = Annotated[PositiveDuration | None, Aliases("step_size interval save_interval period save_period")]


# The first of the schedules, because the first name with an alias wins: the `steps` of a `Step` are its milestones, not
# its length.
class Step(Schedule):
    """Multiply the learning rate by `factor` at each of the `milestones`, or at regular intervals (`every`); it is
    constant in between."""

    aliases = ("step_lr multi_step_lr multi_step step_decay",)
    usual_form = "Step(every = 30 epochs)"

    milestones: Annotated[tuple[PositiveDuration, ...], Aliases("steps step")] = ()
    """Times of the drops, counted from the start of this schedule: `[30 epochs, 60 epochs]`."""
    every: Interval = None
    """Interval between drops; use it instead of `milestones`."""
    factor: Shrink = 0.1
    """Factor for the learning rate at each drop."""
    over: Length | None = None
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

    def list_drops(self) -> tuple[Quantity, ...]:
        return self.milestones or ((self.every,) if self.every is not None else ())

    def compute_factor(self, step: int, start: int, horizon: Horizon, history: Sequence[float]) -> float:
        if self.every is not None:
            return self.factor ** ((step - start) // max(horizon.convert_to_steps(self.every), 1))
        return self.factor ** sum(step - start >= horizon.convert_to_steps(milestone) for milestone in self.milestones)


class Constant(Schedule):
    """Keep the optimizer's learning rate."""

    aliases = ("constant_lr fixed",)

    over: Length | None = None
    """Duration; until the end of the run by default."""

    def compute_factor(self, step: int, start: int, horizon: Horizon, history: Sequence[float]) -> float:
        return 1.0


class Warmup(Schedule):
    """Increase the learning rate linearly: step k of n, counted from 0, has (k + 1) / n of the rate."""

    aliases = ("linear_warmup linear_lr warmup_lr linear_warmup_lr gradual_warmup",)
    usual_form = "Warmup(5 epochs) -> Poly()"
    is_warmup = True

    over: Length
    """Duration of the increase."""

    def compute_factor(self, step: int, start: int, horizon: Horizon, history: Sequence[float]) -> float:
        # The first step already has a rate above 0: a step with rate 0 would be wasted.
        return min((step - start + 1) / max(horizon.convert_to_steps(self.over), 1), 1.0)


class Poly(Schedule):
    """Decrease the learning rate to 0 as (1 - progress) ** power, step by step (Chen et al., DeepLab, section 4.1)."""

    aliases = ("poly_lr polynomial polynomial_lr polynomial_decay poly_decay",)

    power: PositiveFloat = 0.9
    """Exponent: 1 is a straight line; larger values decrease faster at first."""
    over: Length | None = None
    """Duration of the decrease, after which the rate is 0; the rest of the run by default."""

    def ends_at_zero(self) -> bool:
        return True

    def compute_factor(self, step: int, start: int, horizon: Horizon, history: Sequence[float]) -> float:
        return (1.0 - _compute_progress(self.over, step, start, horizon)) ** self.power


class Cosine(Schedule):
    """Decrease the learning rate along half a cosine, step by step (Loshchilov and Hutter, SGDR, equation 5)."""

    aliases = ("cosine_annealing cosine_annealing_lr cosine_lr cosine_decay cos cos_lr",)

    over: Length | None = None
    """Duration of the decrease, after which the rate stays at `floor`; the rest of the run by default."""
    floor: Annotated[
        Probability,
        Aliases("lrf"),
        Aliases("eta_min min_lr", "it is a fraction of the learning rate: divide by `lr`"),
    ] = 0.0
    """Share of the learning rate that remains at the end."""

    def ends_at_zero(self) -> bool:
        return self.floor == 0

    def compute_factor(self, step: int, start: int, horizon: Horizon, history: Sequence[float]) -> float:
        progress = _compute_progress(self.over, step, start, horizon)
        return self.floor + (1.0 - self.floor) * (1.0 + math.cos(math.pi * progress)) / 2.0


class ReduceOnPlateau(Schedule):
    """Reduce the learning rate when the monitored score has not improved for longer than `patience`.

    Only epochs that end after the start of this schedule count. After a reduction, `patience` starts again and the best
    score is kept.
    """

    aliases = ("reduce_lr_on_plateau plateau",)
    follows_score = True

    factor: Shrink = 0.1
    """Factor for the learning rate at each reduction."""
    patience: NaturalDuration = Quantity(4, "epochs")
    """How long the score may fail to improve: with `4 epochs`, the rate is reduced after the fifth epoch in a row
    without an improvement."""
    threshold: NaturalFloat = 1e-4
    """Smallest improvement that counts, as a share of the best score."""

    def get_patience(self) -> Quantity | None:
        return self.patience

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
    for number, law in enumerate(chain, start=1):
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
    for number, law in enumerate(chain, start=1):
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
    return next((law for law in chain[:-1] if law.compute_end(0, horizon) is None), None)


def count_epochs_before(step: int, horizon: Horizon) -> int:
    """Return the number of epochs that end before ``step``."""
    return max(-(-step // horizon.steps_per_epoch) - 1, 0)


def is_improvement(value: float, best: float | None, margin: float) -> bool:
    """Return whether ``value`` exceeds ``best`` by more than ``margin``; NaN never does."""
    return not math.isnan(value) and (best is None or value > best + margin)


def _compute_progress(over: Quantity | None, step: int, start: int, horizon: Horizon) -> float:
    length = horizon.total_steps - start if over is None else horizon.convert_to_steps(over)
    return min((step - start) / max(length, 1), 1.0)
