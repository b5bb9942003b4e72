"""Scores against torchmetrics and against a slow count."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_f1_score,
    multiclass_jaccard_index,
)

from segdsl.diagnostics import SegError
from segdsl.scores.confusion import Confusion, is_background_known

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


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1 << 30), absent=st.sets(st.integers(0, 4), max_size=3), void=st.sampled_from([0.0, 0.2, 1.0])
)
def test_scores_equal_torchmetrics(seed: int, absent: set[int], void: float) -> None:
    prediction, target = maps(seed, tuple(absent), void)
    confusion = counted(prediction, target)
    pair = torch.from_numpy(prediction), torch.from_numpy(target).long()
    asked: dict[str, Any] = {"num_classes": len(NAMES), "ignore_index": IGNORE}
    if void == 1.0:
        assert math.isnan(confusion.dice) and math.isnan(confusion.miou)
        return
    here = ~np.isnan(confusion.dice_by_class)
    assert here.sum() == len(NAMES) - len(absent)
    # The Dice of a class is its F1 score.
    f1 = multiclass_f1_score(*pair, average="none", **asked).numpy()
    iou = multiclass_jaccard_index(*pair, average="none", **asked).numpy()
    assert confusion.dice_by_class[here] == pytest.approx(f1[here], abs=1e-6)
    assert confusion.iou_by_class[here] == pytest.approx(iou[here], abs=1e-6)
    assert confusion.dice == pytest.approx(multiclass_f1_score(*pair, average="macro", **asked).item(), abs=1e-6)
    assert confusion.miou == pytest.approx(multiclass_jaccard_index(*pair, average="macro", **asked).item(), abs=1e-6)
    micro = multiclass_accuracy(*pair, average="micro", **asked).item()
    assert confusion.accuracy == pytest.approx(micro, abs=1e-6)


def test_a_class_predicted_but_never_true_scores_zero() -> None:
    confusion = Confusion(NAMES, IGNORE)
    confusion.update(np.array([0, 0, 2]), np.array([0, 0, 0]))
    assert confusion.collect_class_scores()["car"] == {"dice": 0.0, "iou": 0.0, "precision": 0.0, "recall": None}
    assert confusion.dice == pytest.approx((0.8 + 0.0) / 2)
    sky = {"dice": pytest.approx(0.8), "iou": pytest.approx(2 / 3), "precision": 1.0, "recall": pytest.approx(2 / 3)}
    assert confusion.collect_class_scores()["sky"] == sky
    assert set(confusion.collect_class_scores()["pole"].values()) == {None}


def test_only_ignored_pixels_have_no_score() -> None:
    confusion = Confusion(NAMES, IGNORE)
    confusion.update(np.zeros(4, dtype=np.int64), np.full(4, IGNORE, dtype=np.uint8))
    assert confusion.pixel_count == 0
    assert all(math.isnan(value) for value in confusion.summarize_scores().values())


def test_an_ignore_value_that_is_a_class_id_is_left_out() -> None:
    confusion = Confusion(("a", "b", "c"), ignore=1)
    confusion.update(np.array([0, 1, 2, 2]), np.array([0, 1, 1, 2]))
    assert confusion.counts.tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 1]]


def test_a_value_outside_the_classes_is_refused() -> None:
    with pytest.raises(SegError) as caught:
        Confusion(NAMES, IGNORE).update(np.array([0, 1]), np.array([0, 5]))
    assert caught.value.diagnostics[0].slug == "mask-value-out-of-range"


@pytest.mark.parametrize(
    ("counts", "sole"),
    [
        ([[9, 0], [3, 0]], 0),
        ([[0, 9], [0, 3]], 1),
        ([[9, 0], [2, 1]], None),
        ([[9, 1], [3, 0]], 0),
        ([[9, 0], [0, 0]], None),
        ([[0, 0], [0, 0]], None),
        ([[0, 5], [2, 0]], 1),
    ],
)
def test_a_class_is_alone_if_no_other_was_found(counts: list[list[int]], sole: int | None) -> None:
    confusion = Confusion(("ground", "thing"), 255)
    confusion.counts[:] = counts
    assert confusion.find_sole_class() == sole


@pytest.mark.parametrize(
    ("classes", "name", "known"),
    [
        (("Background", "a"), None, True),
        (("a", "b"), None, False),
        (("a", "b"), "b", True),
        (("a", "b"), "void", False),
    ],
)
def test_a_background_is_known_or_guessed(classes: tuple[str, ...], name: str | None, known: bool) -> None:
    assert is_background_known(classes, name) == known
