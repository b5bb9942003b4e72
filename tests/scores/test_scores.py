"""Scores against their definitions, counted with sets of pixels on drawn maps; and the text that shows them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segdsl.scores.boundary import BoundaryScores, compute_boundary_f1
from segdsl.scores.confusion import Confusion, average_known, find_background
from segdsl.scores.table import render_class_table, render_confusion_table
from segdsl.text.columns import measure_char

VOID = 255
Pair = tuple[np.ndarray, np.ndarray, int]


@st.composite
def pairs(draw: st.DrawFn) -> Pair:
    """A prediction and a target of odd sizes and blocks, classes absent on either side, void nowhere to everywhere."""
    classes = draw(st.integers(1, 6))
    height, width, block = draw(st.integers(1, 19)), draw(st.integers(1, 19)), draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    maps = []
    for _ in range(2):
        known = draw(st.lists(st.integers(0, classes - 1), min_size=1, unique=True))
        small = rng.choice(known, (-(-height // block), -(-width // block)))
        maps.append(np.kron(small, np.ones((block, block), int))[:height, :width].astype(np.uint8))
    prediction, target = maps
    if draw(st.booleans()):
        prediction = np.where(rng.random(target.shape) < 0.7, target, prediction)
    target[rng.random(target.shape) < draw(st.sampled_from([0.0, 0.2, 1.0]))] = VOID
    return prediction, target, classes


def sets(ids: np.ndarray, valid: np.ndarray, k: int) -> set[tuple[int, ...]]:
    return {tuple(at) for at in np.argwhere((ids == k) & valid).tolist()}


def ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def same(found: np.ndarray | float, expected: list[float] | float) -> bool:
    return found == pytest.approx(expected, abs=1e-12, nan_ok=True)


@settings(max_examples=200, deadline=None)
@given(pairs(), st.integers(0, 5))
def test_scores_match_their_definitions(pair: Pair, background: int) -> None:
    prediction, target, classes = pair
    confusion = Confusion([f"c{k}" for k in range(classes)], VOID)
    confusion.update(prediction, target)
    valid = target != VOID
    both = [(sets(prediction, valid, k), sets(target, valid, k)) for k in range(classes)]
    dice = [ratio(2 * len(p & t), len(p) + len(t)) for p, t in both]
    iou = [ratio(len(p & t), len(p | t)) for p, t in both]
    assert same(confusion.dice_by_class, dice)
    assert same(confusion.iou_by_class, iou)
    assert same(confusion.precision_by_class, [ratio(len(p & t), len(p)) for p, t in both])
    assert same(confusion.recall_by_class, [ratio(len(p & t), len(t)) for p, t in both])
    assert confusion.counts.tolist() == [[len(t & p) for p, _ in both] for _, t in both]
    right = sum(len(p & t) for p, t in both)
    assert same(confusion.accuracy, ratio(right, int(valid.sum())))
    # Dice of all classes by summed counts, which is why it stands under the same number
    assert same(confusion.accuracy, ratio(2 * right, sum(len(p) + len(t) for p, t in both)))
    front = [k for k in range(classes) if k != background]
    hits, sizes = (sum(f(*both[k]) for k in front) for f in (lambda p, t: len(p & t), lambda p, t: len(p) + len(t)))
    found = confusion.compute_foreground_scores(background)
    assert same(found["dice_micro"], ratio(2 * hits, sizes))
    assert same(found["dice"], average_known(np.array([dice[k] for k in front])))
    assert same(found["miou"], average_known(np.array([iou[k] for k in front])))


def slow_boundary(prediction: np.ndarray, target: np.ndarray, k: int, reach: float) -> float:
    """The boundary F1 of a class, pixel by pixel."""
    height, width = target.shape

    def outline(ids: np.ndarray) -> list[tuple[int, int]]:
        inside = lambda y, x: 0 <= y < height and 0 <= x < width and target[y, x] != VOID  # noqa: E731
        return [
            (y, x) for y in range(height) for x in range(width) if inside(y, x) and ids[y, x] == k
            and any(inside(y + a, x + b) and ids[y + a, x + b] != k for a, b in ((0, 1), (1, 0), (0, -1), (-1, 0)))
        ]  # fmt: skip

    def met(points: list[tuple[int, int]], others: list[tuple[int, int]]) -> float:
        near = [any(math.dist(p, o) <= reach for o in others) for p in points]
        return sum(near) / len(near) if near else 0.0

    ours, theirs = outline(prediction), outline(target)
    if not ours and not theirs:
        return math.nan
    precision, recall = met(ours, theirs), met(theirs, ours)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@settings(max_examples=100, deadline=None)
@given(pairs(), st.sampled_from([1, 1.5, 3, 0.01, 0.2]))
def test_boundary_scores_match_a_slow_implementation(pair: Pair, tolerance: float) -> None:
    prediction, target, classes = pair
    reach = tolerance if tolerance >= 1 else math.ceil(tolerance * math.hypot(*target.shape))
    found = compute_boundary_f1(prediction, target, classes, VOID, tolerance)
    assert same(found, [slow_boundary(prediction, target, k, reach) for k in range(classes)])


def test_a_boundary_within_the_tolerance_is_met_and_one_outside_is_not() -> None:
    target = np.zeros((40, 60), np.uint8)
    target[10:30, 20:40] = 1
    for shift, tolerance, score in ((3, 3, 1.0), (0, 1, 1.0)):
        assert compute_boundary_f1(np.roll(target, shift, 1), target, 2, VOID, tolerance) == pytest.approx([score] * 2)
    assert (compute_boundary_f1(np.roll(target, 4, 1), target, 2, VOID, 3) < 0.8).all()
    # 0.04 of the diagonal of 72 pixels is 3
    assert compute_boundary_f1(np.roll(target, 3, 1), target, 2, VOID, 0.04).tolist() == [1, 1]


def test_a_class_is_averaged_over_the_images_where_it_has_a_boundary() -> None:
    half, none = np.repeat(np.array([[0, 1]], np.uint8), 8, 1).repeat(8, 0), np.zeros((8, 16), np.uint8)
    scores = BoundaryScores(3, VOID, 1)
    given = [scores.update(half, half), scores.update(none, half), scores.update(none, none)]
    assert [g.tolist()[:2] for g in given[:2]] == [[1, 1], [0, 0]] and np.isnan(given[2]).all()
    assert same(scores.scores_by_class, [0.5, 0.5, math.nan])


@pytest.mark.parametrize(
    ("classes", "said", "expected"),
    [(("sky", "car"), None, 0), (("car", "Background"), None, 1), (("background", "car"), "car", 1),
     (("car", "background"), "void", 1), (("a", "b"), "gone", 0)],
)  # fmt: skip
def test_which_class_is_the_background(classes: tuple[str, ...], said: str | None, expected: int) -> None:
    assert find_background(classes, said) == expected


@pytest.fixture
def confusion() -> Callable[[int], Confusion]:
    def made(classes: int) -> Confusion:
        names = ["mean", "名前" * 30, "a class\x1b[31m with a very long name, of more than fifty characters"]
        found = Confusion([*names, *(f"class {k}" for k in range(3, classes))], VOID)
        rng = np.random.default_rng(0)
        found.update(rng.integers(0, classes - 1, (20, 20)), rng.integers(1, classes, (20, 20)))
        return found

    return made


def width(line: str) -> int:
    return sum(map(measure_char, line))


@pytest.mark.parametrize("classes", [3, 10, 30])
def test_tables_fit_into_80_columns(confusion: Callable[[int], Confusion], classes: int) -> None:
    counts = confusion(classes)
    scores = {name: {**found, "boundary_f1": 0.5} for name, found in counts.collect_class_scores().items()}
    lines = render_class_table(scores, {"mean": {"dice": counts.dice, "iou": None}})
    assert len(lines) == classes + 2
    assert lines[0].split() == ["class", "precision", "recall", "boundary", "dice", "iou"]
    assert lines[-1].split() == ["mean", f"{counts.dice:.4f}", "-"]
    assert lines[1].split() == ["mean", "0.0000", "-", "0.5000", "0.0000", "0.0000"]
    matrix = render_confusion_table(counts.classes, counts.counts.tolist())
    assert len(matrix) == (classes + 2 if classes <= 10 else 0)
    for line in lines + matrix:
        assert width(line) <= 80 and "\x1b" not in line
    if matrix:
        assert matrix[2].split()[2:] == ["-"] * classes
        shares = [float(cell) for cell in matrix[3].split()[-classes:]]
        assert sum(shares) == pytest.approx(100, abs=0.06 * classes)
