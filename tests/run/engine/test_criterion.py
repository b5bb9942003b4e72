"""Losses against torch's own and against closed forms; void neither counts nor teaches."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from segdsl.ir.program import Loss
from segdsl.ir.word import list_words
from segdsl.run.engine.criterion import CRITERION_BUILDERS, build_criterion
from segdsl.words.losses import CrossEntropy, Dice, WeightedSum

CLASSES, IGNORE = 4, 255


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    """Logits (2, 4, 6, 5) and targets with void."""
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(0, CLASSES, (2, 6, 5), generator=generator)
    target[:, :2] = IGNORE
    return torch.randn(2, CLASSES, 6, 5, generator=generator, requires_grad=True), target


def test_every_loss_word_has_a_builder() -> None:
    assert set(CRITERION_BUILDERS) == set(list_words(Loss).values())


def test_cross_entropy_is_torchs_mean_over_valid_pixels(batch: tuple[Tensor, Tensor]) -> None:
    loss = build_criterion(CrossEntropy(), CLASSES, IGNORE)(*batch)
    torch.testing.assert_close(loss, F.cross_entropy(*batch, ignore_index=IGNORE))


def test_average_over_all_counts_void_as_zero(batch: tuple[Tensor, Tensor]) -> None:
    loss = build_criterion(CrossEntropy(average="all"), CLASSES, IGNORE)(*batch)
    torch.testing.assert_close(loss, F.cross_entropy(*batch, ignore_index=IGNORE, reduction="none").mean())


def test_label_smoothing_is_torchs(batch: tuple[Tensor, Tensor]) -> None:
    loss = build_criterion(CrossEntropy(label_smoothing=0.1), CLASSES, IGNORE)(*batch)
    torch.testing.assert_close(loss, F.cross_entropy(*batch, ignore_index=IGNORE, label_smoothing=0.1))


def test_class_weights_multiply_the_pixels_of_their_class(batch: tuple[Tensor, Tensor]) -> None:
    logits, target = batch
    weights = (1.0, 2.0, 3.0, 0.5)
    loss = build_criterion(CrossEntropy(class_weights=weights), CLASSES, IGNORE)(logits, target)
    valid = target != IGNORE
    pixels = F.cross_entropy(logits, target, ignore_index=IGNORE, reduction="none")[valid]
    torch.testing.assert_close(loss, (pixels * torch.tensor(weights)[target[valid]]).mean())


def test_dice_is_zero_for_a_perfect_and_one_for_a_wrong_prediction(batch: tuple[Tensor, Tensor]) -> None:
    target = batch[1]
    known = target.clamp(max=CLASSES - 1)
    right = F.one_hot(known, CLASSES).permute(0, 3, 1, 2) * 100.0
    criterion = build_criterion(Dice(smooth=1e-6), CLASSES, IGNORE)
    assert criterion(right, target).item() == pytest.approx(0, abs=1e-5)
    assert criterion(right.roll(1, dims=1), target).item() == pytest.approx(1, abs=1e-5)


def test_dice_without_background_leaves_class_zero_out(batch: tuple[Tensor, Tensor]) -> None:
    logits, target = batch
    probability = logits.softmax(1) * (target != IGNORE)[:, None]
    scores = []
    for k in range(1, CLASSES):
        truth = target == k
        overlap = probability[:, k][truth].sum()
        scores.append((2 * overlap + 1) / (probability[:, k].sum() + truth.sum() + 1))
    loss = build_criterion(Dice(background=False), CLASSES, IGNORE)(logits, target)
    torch.testing.assert_close(loss, 1 - torch.stack(scores).mean())


def test_a_sum_weighs_its_terms(batch: tuple[Tensor, Tensor]) -> None:
    word = WeightedSum(losses=(CrossEntropy(), Dice()), weights=(0.5, 2.0))
    parts = [build_criterion(loss, CLASSES, IGNORE)(*batch) for loss in word.losses]
    torch.testing.assert_close(build_criterion(word, CLASSES, IGNORE)(*batch), 0.5 * parts[0] + 2.0 * parts[1])


@pytest.mark.parametrize("word", [CrossEntropy(), CrossEntropy(average="all"), Dice(), WeightedSum(losses=(Dice(),))])
def test_ignored_pixels_have_no_gradient(batch: tuple[Tensor, Tensor], word: Loss) -> None:
    logits, target = batch
    build_criterion(word, CLASSES, IGNORE)(logits, target).backward()
    assert logits.grad is not None
    assert torch.all(logits.grad[:, :, :2] == 0)
    assert torch.any(logits.grad[:, :, 2:] != 0)


@pytest.mark.parametrize("word", [CrossEntropy(), CrossEntropy(average="all"), Dice()])
def test_a_batch_of_void_is_finite(batch: tuple[Tensor, Tensor], word: Loss) -> None:
    logits = batch[0]
    loss = build_criterion(word, CLASSES, IGNORE)(logits, torch.full_like(batch[1], IGNORE))
    loss.backward()
    assert logits.grad is not None
    assert loss.item() == 0 and torch.all(logits.grad == 0)
