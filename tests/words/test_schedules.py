"""Learning-rate laws and the stopper: closed forms, the laws of torch, and edge cases."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError

from segdsl.ir.program import Schedule
from segdsl.ir.values import Quantity
from segdsl.ir.word import list_words
from segdsl.words.schedules import (
    Constant,
    Cosine,
    Horizon,
    Poly,
    ReduceOnPlateau,
    Step,
    Warmup,
    compute_rate_factor,
    find_endless_schedule,
)
from segdsl.words.stoppers import EarlyStopping


def iters(value: float) -> Quantity:
    return Quantity(value, "iters")


def epochs(value: float) -> Quantity:
    return Quantity(value, "epochs")


def curve(chain: tuple, horizon: Horizon, history: tuple[float, ...] = ()) -> list[float]:
    return [compute_rate_factor(chain, step, horizon, history) for step in range(horizon.total_steps)]


def test_no_schedule_keeps_the_rate() -> None:
    assert curve((), Horizon(2, 3)) == [1.0] * 6


def test_warmup_then_poly_over_the_rest_of_the_run() -> None:
    rates = curve((Warmup(over=iters(4)), Poly(power=0.9)), Horizon(5, 4))
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4:] == pytest.approx([(1 - k / 16) ** 0.9 for k in range(16)])
    assert 0 < rates[-1] < 0.1


def test_a_duration_in_epochs_is_that_many_steps() -> None:
    horizon = Horizon(7, 4)
    assert curve((Warmup(over=epochs(2)),), horizon) == curve((Warmup(over=iters(14)),), horizon)
    assert horizon.convert_to_steps(epochs(0.5)) == 4


def test_poly_stays_at_zero_and_cosine_at_its_floor() -> None:
    horizon = Horizon(10, 3)
    poly = curve((Poly(power=2.0, over=epochs(2)),), horizon)
    assert poly[:20] == pytest.approx([(1 - k / 20) ** 2 for k in range(20)])
    assert poly[20:] == [0.0] * 10
    cosine = curve((Cosine(over=epochs(1), floor=0.1),), horizon)
    assert cosine[5] == pytest.approx(0.1 + 0.9 * 0.5)
    assert cosine[10:] == pytest.approx([0.1] * 20)


def test_laws_follow_each_other() -> None:
    rates = curve((Warmup(over=iters(2)), Constant(over=iters(3)), Cosine()), Horizon(10, 1))
    assert rates[:5] == [0.5, 1.0, 1.0, 1.0, 1.0]
    assert rates[5:] == pytest.approx([(1 + math.cos(math.pi * k / 5)) / 2 for k in range(5)])


@pytest.mark.parametrize("patience", [0, 1, 3])
@pytest.mark.parametrize("threshold", [0.0, 0.05])
def test_plateau_equals_torch(patience: int, threshold: float) -> None:
    history = [0.1, 0.3, 0.3, 0.31, 0.29, 0.3, 0.3, 0.3, 0.4, 0.4, 0.39, 0.41, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4]
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    reference = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode="max", factor=0.5, patience=patience, threshold=threshold
    )
    law, horizon = ReduceOnPlateau(factor=0.5, patience=epochs(patience), threshold=threshold), Horizon(3, len(history))
    lowered = 0
    for epoch, value in enumerate(history[:-1], start=1):
        reference.step(value)
        expected = optimizer.param_groups[0]["lr"]
        lowered += expected < 1
        assert compute_rate_factor((law,), epoch * 3, horizon, history) == expected
        assert compute_rate_factor((law,), epoch * 3 + 2, horizon, history[:epoch]) == expected
    assert lowered > 0


def test_steps_equal_torchs() -> None:
    horizon = Horizon(3, 8)
    for law, falls in (
        (Step(milestones=(epochs(2), iters(7), epochs(5)), factor=0.5), [6, 7, 15]),
        (Step(every=iters(4), factor=0.5), [4, 8, 12, 16, 20]),
        (Step(every=epochs(2), factor=0.5), [6, 12, 18]),
    ):
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        reference = torch.optim.lr_scheduler.MultiStepLR(optimizer, falls, gamma=0.5)
        for rate in curve((law,), horizon):
            assert rate == optimizer.param_groups[0]["lr"]
            optimizer.step()
            reference.step()


def test_steps_count_from_where_they_begin_and_may_end() -> None:
    law = Step(milestones=(epochs(1), epochs(2)), over=iters(5))
    rates = curve((Warmup(over=iters(3)), law, Constant()), Horizon(2, 5))
    assert rates[2:] == pytest.approx([1.0, 1.0, 1.0, 0.1, 0.1, 0.01, 1.0, 1.0])
    assert find_endless_schedule((Step(every=iters(1)), Constant())) == Step(every=iters(1))


def test_steps_are_told_once_and_rise() -> None:
    for refused in (
        {},
        {"milestones": (epochs(1),), "every": epochs(1)},
        {"milestones": (epochs(2), epochs(2))},
        {"milestones": (epochs(2), epochs(1))},
        {"milestones": (epochs(5),), "over": epochs(5)},
        {"every": iters(5), "over": iters(4)},
    ):
        with pytest.raises(ValidationError):
            Step.model_validate(refused)
    assert Step(milestones=(epochs(2), iters(10), epochs(3)), over=epochs(4)).factor == 0.1


VARIED: dict[type[Schedule], list[dict]] = {
    Constant: [{"over": epochs(2)}],
    Warmup: [{"over": iters(3)}],
    Poly: [{"power": 3.0}, {"over": epochs(2)}],
    Cosine: [{"over": epochs(2)}, {"floor": 0.5}],
    Step: [{"milestones": (iters(1),)}, {"every": iters(3), "milestones": ()}, {"factor": 0.5}, {"over": epochs(3)}],
    ReduceOnPlateau: [{"factor": 0.5}, {"patience": epochs(1)}, {"threshold": 5.0}],
}


@pytest.mark.parametrize("kind", list_words(Schedule).values(), ids=lambda k: k.__name__)
def test_every_argument_changes_the_curve(kind: type[Schedule]) -> None:
    needed: dict = {"over": epochs(1)} if kind is Warmup else {"milestones": (epochs(2),)} if kind is Step else {}
    history = (0.1, 0.2, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3)

    def rates(word: Schedule) -> list[float]:
        last = () if find_endless_schedule((word, Poly())) else (Poly(),)
        return curve((word, *last), Horizon(2, 10), history)

    changes = VARIED[kind]
    assert {name for change in changes for name in change} == set(kind.model_fields)
    assert all(rates(kind(**{**needed, **change})) != rates(kind(**needed)) for change in changes)


def test_plateau_looks_at_epochs_after_the_warmup_only() -> None:
    horizon, law = Horizon(10, 8), ReduceOnPlateau(factor=0.1, patience=epochs(1))
    history = (0.9, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1)
    rates = curve((Warmup(over=iters(15)), law), horizon, history)
    # the best value of the first epoch, while warming up, is not what later ones are held against
    assert rates[15:40] == [1.0] * 25
    assert rates[40] == pytest.approx(0.1)
    assert curve((law,), horizon, history)[30] == pytest.approx(0.1)


def test_plateau_takes_losses_as_negative_scores() -> None:
    horizon, law = Horizon(1, 10), ReduceOnPlateau(factor=0.1, patience=epochs(1))
    falling = tuple(-1.0 / k for k in range(1, 10))
    assert compute_rate_factor((law,), 9, horizon, falling) == 1.0
    assert compute_rate_factor((law,), 9, horizon, (-1.0,) * 9) < 1.0


def test_nan_is_never_an_improvement() -> None:
    law = ReduceOnPlateau(factor=0.1, patience=epochs(1))
    assert compute_rate_factor((law,), 2, Horizon(1, 9), (math.nan, math.nan)) == pytest.approx(0.1)
    assert EarlyStopping(patience=epochs(2)).should_stop([0.5, math.nan, math.nan], Horizon(1, 9))


def test_a_schedule_part_without_end_hides_later_parts() -> None:
    law = ReduceOnPlateau()
    assert find_endless_schedule((Warmup(over=iters(5)), law)) is None
    assert find_endless_schedule((law, Poly())) is law
    assert find_endless_schedule((Poly(over=epochs(3)), Constant())) is None


def test_early_stopping_waits_for_its_patience() -> None:
    rule, horizon = EarlyStopping(min_delta=0.01, patience=epochs(3)), Horizon(10, 50)
    assert not rule.should_stop([], horizon)
    assert not rule.should_stop([0.5], horizon)
    assert not rule.should_stop([0.5, 0.505, 0.505], horizon)
    assert rule.should_stop([0.5, 0.505, 0.505, 0.509], horizon)
    assert not rule.should_stop([0.5, 0.505, 0.505, 0.511], horizon)


def test_early_stopping_counts_iterations_too() -> None:
    rule = EarlyStopping(min_delta=0.0, patience=iters(25))
    assert not rule.should_stop([0.5, 0.5, 0.5], Horizon(10, 50))
    assert rule.should_stop([0.5, 0.5, 0.5, 0.5], Horizon(10, 50))


def test_early_stopping_skips_what_ends_before_after() -> None:
    rule, horizon = EarlyStopping(min_delta=0.0, patience=epochs(2), after=iters(30)), Horizon(10, 50)
    # the third epoch ends at step 30 and is the first that counts
    assert not rule.should_stop([0.9, 0.8, 0.1, 0.1], horizon)
    assert rule.should_stop([0.9, 0.8, 0.1, 0.1, 0.1], horizon)
    assert not rule.should_stop([0.9, 0.8], horizon)


def test_lengths_are_positive() -> None:
    for make in (lambda: Warmup(over=iters(0)), lambda: Poly(over=epochs(-1)), lambda: EarlyStopping(after=iters(-1))):
        with pytest.raises(ValidationError):
            make()
