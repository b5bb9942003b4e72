"""Losses against slow and obvious implementations, over drawn maps: void everywhere, somewhere and nowhere."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from segdsl.diagnostics import SegError
from segdsl.ir.program import Loss
from segdsl.ir.word import list_words
from segdsl.run.engine.criterion import CRITERION_BUILDERS, build_criterion
from segdsl.words.losses import CrossEntropy, Dice, Focal, WeightedSum

IGNORE = 255
FEW = settings(max_examples=60, deadline=None)
Pixel = tuple[list[float], int]
"""The softmax of a learnt pixel, and its class."""


@st.composite
def maps(draw: st.DrawFn, classes: int) -> tuple[Tensor, Tensor]:
    """Logits (N, C, H, W) in double precision and a target (N, H, W)."""
    count, height, width = (draw(st.integers(1, most)) for most in (2, 3, 4))
    void = draw(st.sampled_from([0.0, 0.4, 1.0]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    spread = draw(st.sampled_from([0.1, 2.0, 40.0]))
    shape = (count, height, width)
    logits = spread * torch.randn(count, classes, height, width, generator=generator, dtype=torch.float64)
    target = torch.randint(0, classes, shape, generator=generator)
    return logits, target.masked_fill(torch.rand(shape, generator=generator) < void, IGNORE)


def learnt(logits: Tensor, target: Tensor) -> Iterator[Pixel]:
    """The pixels that are not void, one by one."""
    for image, mask in zip(logits.tolist(), target.tolist(), strict=True):
        for y, line in enumerate(mask):
            for x, truth in enumerate(line):
                if truth != IGNORE:
                    powers = [math.exp(channel[y][x] - max(c[y][x] for c in image)) for channel in image]
                    yield [power / sum(powers) for power in powers], truth


def surprise(p: float) -> float:
    return -math.log(p) if p > 0 else math.inf


def averaged(costs: Sequence[float], target: Tensor, average: str, share: float = 1.0) -> float:
    """The mean of the costliest ``share`` of all learnt pixels."""
    if not costs:
        return 0.0
    kept = sorted(costs, reverse=True)[: max(round(share * len(costs)), 1)]
    return sum(kept) / (share * target.numel() if average == "all" else len(kept))


def check(word: Loss, classes: int, logits: Tensor, target: Tensor, expected: float) -> None:
    """Value and gradient in double, and that single precision gives nothing but numbers."""
    for kind in (torch.float64, torch.float32):
        flowing = logits.to(kind, copy=True).requires_grad_()
        loss = build_criterion(word, classes, IGNORE)(flowing, target)
        loss.backward()
        assert flowing.grad is not None and bool(flowing.grad.isfinite().all())
        assert bool((flowing.grad.movedim(1, -1)[target == IGNORE] == 0).all())
        assert loss.item() == pytest.approx(expected, rel=1e-4 if kind == torch.float32 else 1e-6, abs=1e-6)


WEIGHTS = st.none() | st.lists(st.floats(0.125, 10.0, width=32), min_size=3, max_size=3).map(tuple)
AVERAGES = st.sampled_from(["valid", "all"])


@FEW
@given(maps(3), WEIGHTS, st.sampled_from([0.0, 0.1, 0.7]), AVERAGES, st.sampled_from([1.0, 0.5, 0.26, 0.01]))
def test_cross_entropy(
    drawn: tuple[Tensor, Tensor], weights: tuple[float, ...] | None, smoothing: float, average: Any, hardest: float
) -> None:
    word = CrossEntropy(average=average, label_smoothing=smoothing, class_weights=weights, hardest=hardest)
    costs = []
    for p, truth in learnt(*drawn):
        wanted = [(1 - smoothing) * (k == truth) + smoothing / 3 for k in range(3)]
        terms = [(weights or (1, 1, 1))[k] * wanted[k] * surprise(p[k]) for k in range(3) if wanted[k]]
        costs.append(sum(terms))
    check(word, 3, *drawn, averaged(costs, drawn[1], average, hardest))


@FEW
@given(maps(3), WEIGHTS, st.sampled_from([0.0, 0.5, 1.0, 2.0, 5.0]), AVERAGES)
def test_focal(drawn: tuple[Tensor, Tensor], weights: tuple[float, ...] | None, gamma: float, average: Any) -> None:
    word = Focal(gamma=gamma, class_weights=weights, average=average)
    costs = [
        (weights or (1, 1, 1))[truth] * (1 - p[truth]) ** gamma * surprise(p[truth]) for p, truth in learnt(*drawn)
    ]
    check(word, 3, *drawn, averaged(costs, drawn[1], average))


@FEW
@given(maps(4), st.booleans(), st.sampled_from([1e-3, 1.0, 10.0]))
def test_dice(drawn: tuple[Tensor, Tensor], background: bool, smooth: float) -> None:
    pixels = list(learnt(*drawn))
    terms = []
    for k in range(0 if background else 1, 4):
        overlap = sum(p[k] for p, truth in pixels if truth == k)
        sizes = sum(p[k] for p, _ in pixels) + sum(truth == k for _, truth in pixels)
        terms.append(1 - (2 * overlap + smooth) / (sizes + smooth))
    check(Dice(background=background, smooth=smooth), 4, *drawn, sum(terms) / len(terms))


@FEW
@given(maps(3), st.none() | st.tuples(st.floats(0, 3), st.floats(0, 3)))
def test_a_weighted_sum(drawn: tuple[Tensor, Tensor], weights: tuple[float, float] | None) -> None:
    parts = (CrossEntropy(hardest=0.5), Dice())
    single = [build_criterion(part, 3, IGNORE)(*drawn).item() for part in parts]
    expected = sum(w * value for w, value in zip(weights or (1, 1), single, strict=True))
    check(WeightedSum(losses=parts, weights=weights), 3, *drawn, expected)


WORDS = [
    CrossEntropy(label_smoothing=0.1, class_weights=(1.0, 2.0, 0.5)),
    CrossEntropy(hardest=0.3, average="all"),
    Dice(),
    Focal(gamma=0.5, class_weights=(1.0, 2.0, 0.5)),
    WeightedSum(losses=(CrossEntropy(), Dice(), Focal()), weights=(1.0, 0.5, 2.0)),
]


def example(spread: float = 3.0, size: tuple[int, int] = (5, 7)) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    logits = spread * torch.randn(2, 3, *size, generator=generator, dtype=torch.float64)
    target = torch.randint(0, 3, (2, *size), generator=generator)
    target[0, 1] = IGNORE
    return logits, target


@pytest.mark.parametrize("word", WORDS, ids=lambda w: type(w).__name__)
def test_gradients_are_those_of_the_value(word: Loss) -> None:
    logits, target = example()
    criterion = build_criterion(word, 3, IGNORE)
    assert torch.autograd.gradcheck(lambda x: criterion(x, target), logits.requires_grad_())


@pytest.mark.parametrize("word", WORDS, ids=lambda w: type(w).__name__)
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_single(word: Loss, kind: torch.dtype) -> None:
    logits, target = example(spread=30.0, size=(64, 96))
    half = logits.to(kind).requires_grad_()
    criterion = build_criterion(word, 3, IGNORE)
    with torch.autocast("cpu", dtype=kind):
        loss = criterion(half, target)
    loss.backward()
    whole = half.detach().float().requires_grad_()
    expected = criterion(whole, target)
    expected.backward()
    assert loss.dtype == torch.float32
    assert torch.equal(loss, expected)
    assert half.grad is not None and whole.grad is not None
    assert torch.equal(half.grad, whole.grad.to(kind)) and bool(half.grad.isfinite().all())


def test_no_loss_sees_autocast_or_half_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[bool, torch.dtype]] = []

    def probe(logits: Tensor, target: Tensor) -> Tensor:
        seen.append((torch.is_autocast_enabled("cpu"), logits.dtype))
        return logits.sum()

    monkeypatch.setitem(CRITERION_BUILDERS, Dice, lambda word, classes, ignore: probe)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        build_criterion(Dice(), 3, IGNORE)(torch.zeros(1, 3, 2, 2, dtype=torch.bfloat16), torch.zeros(1, 2, 2))
        assert torch.is_autocast_enabled("cpu")
    assert seen == [(False, torch.float32)]


class Work(TorchDispatchMode):
    """Counts the numbers that all operations give, forwards and backwards."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = result if isinstance(result, tuple) else (result,)
        self.numbers += sum(each.numel() for each in given if isinstance(each, Tensor))
        return result


@pytest.mark.parametrize("word", [CrossEntropy(), CrossEntropy(hardest=0.5), Dice(), Focal()], ids=str)
def test_work_grows_with_the_classes_and_not_with_their_square(word: Loss) -> None:
    counted = []
    for classes in (40, 80):
        logits = torch.randn(1, classes, 16, 16, requires_grad=True)
        target = torch.randint(0, classes, (1, 16, 16))
        with Work() as work:
            build_criterion(word, classes, IGNORE)(logits, target).backward()
        counted.append(work.numbers)
    assert counted[1] < 2.2 * counted[0]


VARIED: dict[type[Loss], list[dict[str, Any]]] = {
    CrossEntropy: [
        {"average": "all"}, {"label_smoothing": 0.1}, {"class_weights": (1.0, 2.0, 0.5)}, {"hardest": 0.3},
    ],
    Dice: [{"background": False}, {"smooth": 5.0}],
    Focal: [{"gamma": 1.0}, {"average": "all"}, {"class_weights": (1.0, 2.0, 0.5)}],
    WeightedSum: [{"losses": (Dice(), Focal())}, {"weights": (1.0, 0.5)}],
}  # fmt: skip
"""Arguments of each loss other than its defaults; `ignore` has its own test."""


@pytest.mark.parametrize("kind", list_words(Loss).values(), ids=lambda k: k.__name__)
def test_every_argument_changes_the_loss(kind: type[Loss]) -> None:
    usual: dict[str, Any] = {"losses": (Dice(), CrossEntropy())} if kind is WeightedSum else {}
    plain = build_criterion(kind(**usual), 3, IGNORE)(*example()).item()
    for change in VARIED[kind]:
        other = build_criterion(kind(**{**usual, **change}), 3, IGNORE)(*example()).item()
        assert abs(other - plain) > 1e-4, change
    assert {name for change in VARIED[kind] for name in change} == set(kind.model_fields) - {"ignore"}
    if "ignore" in kind.model_fields:
        build_criterion(kind.model_validate({"ignore": IGNORE}), 3, IGNORE)
        with pytest.raises(SegError):
            build_criterion(kind.model_validate({"ignore": 7}), 3, IGNORE)


def test_class_weights_replace_auto_in_nested_losses() -> None:
    inner = WeightedSum(losses=(Focal(class_weights="auto"), CrossEntropy(class_weights=(1.0, 2.0))))
    word = WeightedSum(losses=(Dice(), inner), weights=(1.0, 2.0))
    assert word.needs_class_weights() and not WeightedSum(losses=(Dice(), CrossEntropy())).needs_class_weights()
    found = word.replace_auto_weights([3.0, 4.0])
    assert not found.needs_class_weights()
    filled = WeightedSum(losses=(Focal(class_weights=(3.0, 4.0)), CrossEntropy(class_weights=(1.0, 2.0))))
    assert found == WeightedSum(losses=(Dice(), filled), weights=(1.0, 2.0))
    assert Dice().replace_auto_weights([3.0, 4.0]) == Dice()
