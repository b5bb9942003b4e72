"""Scores against torchmetrics and against a slow count."""

from __future__ import annotations

import math

import numpy as np
import pytest

from segdsl.diagnostics import SegError
from segdsl.run.metrics import Confusion

NAMES = ("sky", "road", "car", "pole", "sign")
IGNORE = 255


def maps(seed: int, absent: tuple[int, ...] = (), void: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    """A prediction and a target (3, 17, 23) that use all classes but the absent ones, and some void."""
    rng = np.random.default_rng(seed)
    known = [k for k in range(len(NAMES)) if k not in absent]
    target = rng.choice(known, size=(3, 17, 23)).astype(np.uint8)
    prediction = np.where(rng.random(target.shape) < 0.6, target, rng.choice(known, size=target.shape))
    target[rng.random(target.shape) < void] = IGNORE
    return prediction.astype(np.int64), target


def counted(prediction: np.ndarray, target: np.ndarray) -> Confusion:
    confusion = Confusion(NAMES, IGNORE)
    for one, other in zip(prediction, target, strict=True):
        confusion.update(one, other)
    return confusion


@pytest.mark.parametrize("absent", [(), (3,), (0, 4)])
def test_scores_equal_a_slow_count(absent: tuple[int, ...]) -> None:
    prediction, target = maps(1, absent)
    confusion = counted(prediction, target)
    dice, iou = [], []
    for k in range(len(NAMES)):
        pairs = [(p == k, t == k) for p, t in zip(prediction.flat, target.flat, strict=True) if t != IGNORE]
        hit, false, missed = (
            sum(a and b for a, b in pairs),
            sum(a > b for a, b in pairs),
            sum(a < b for a, b in pairs),
        )
        if hit + false + missed:
            dice.append(2 * hit / (2 * hit + false + missed))
            iou.append(hit / (hit + false + missed))
    assert len(dice) == len(NAMES) - len(absent)
    assert confusion.dice == pytest.approx(np.mean(dice), abs=1e-12)
    assert confusion.miou == pytest.approx(np.mean(iou), abs=1e-12)
    assert confusion.accuracy == pytest.approx((prediction == target)[target != IGNORE].mean(), abs=1e-12)


# What MulticlassF1Score (the Dice of a class is its F1 score) and MulticlassJaccardIndex of torchmetrics 1.9.0 gave for
# these maps, with average="macro" and ignore_index=255. It is no dependency, so that the numbers stand here.
@pytest.mark.parametrize(
    ("absent", "dice", "miou"),
    [((), 0.6649785041809082, 0.4985313415527344), ((2,), 0.6872200965881348, 0.5238174200057983)],
)
def test_scores_equal_torchmetrics(absent: tuple[int, ...], dice: float, miou: float) -> None:
    confusion = counted(*maps(2, absent))
    assert confusion.dice == pytest.approx(dice, abs=1e-6)
    assert confusion.miou == pytest.approx(miou, abs=1e-6)


def test_a_class_that_is_predicted_and_never_true_scores_zero_and_counts() -> None:
    confusion = Confusion(NAMES, IGNORE)
    confusion.update(np.array([0, 0, 2]), np.array([0, 0, 0]))
    assert confusion.per_class()["car"] == {"dice": 0.0, "iou": 0.0, "precision": 0.0, "recall": None}
    assert confusion.dice == pytest.approx((0.8 + 0.0) / 2)
    sky = {"dice": pytest.approx(0.8), "iou": pytest.approx(2 / 3), "precision": 1.0, "recall": pytest.approx(2 / 3)}
    assert confusion.per_class()["sky"] == sky
    assert set(confusion.per_class()["pole"].values()) == {None}


def test_only_void_has_no_score() -> None:
    confusion = Confusion(NAMES, IGNORE)
    confusion.update(np.zeros(4, dtype=np.int64), np.full(4, IGNORE, dtype=np.uint8))
    assert confusion.pixels == 0
    assert all(math.isnan(value) for value in confusion.summary().values())


def test_an_ignore_value_that_is_a_class_id_is_left_out() -> None:
    confusion = Confusion(("a", "b", "c"), ignore=1)
    confusion.update(np.array([0, 1, 2, 2]), np.array([0, 1, 1, 2]))
    assert confusion.counts.tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 1]]


def test_a_value_outside_the_classes_is_refused() -> None:
    with pytest.raises(SegError) as caught:
        Confusion(NAMES, IGNORE).update(np.array([0, 1]), np.array([0, 5]))
    assert caught.value.diagnostics[0].slug == "mask-value-out-of-range"
