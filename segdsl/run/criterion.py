"""What the loss words compute: one realisation for each, from logits and targets to a number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from segdsl.diagnostics import fail
from segdsl.ir.program import Loss
from segdsl.words.losses import CrossEntropy, Dice, WeightedSum

Criterion = Callable[[Tensor, Tensor], Tensor]
"""logits (N, C, H, W) and targets (N, H, W, int64) to a scalar."""


def build_criterion(loss: Loss, classes: int, ignore: int) -> Criterion:
    """The criterion of a loss word for this label space.

    Raises SegError when the loss does not fit it (`ignore-differs`, `class-weights-count`, `loss-weights-count`).
    """
    return REALISATIONS[type(loss)](loss, classes, ignore)


def cross_entropy(word: CrossEntropy, classes: int, ignore: int) -> Criterion:
    """Cross entropy averaged over the learnt pixels, or over all; a batch of only void costs 0."""
    _check_ignore(word.ignore, ignore)
    weights = _class_weights(word, classes)

    def criterion(logits: Tensor, target: Tensor) -> Tensor:
        total = F.cross_entropy(
            logits,
            target,
            weight=None if weights is None else weights.to(logits),
            ignore_index=ignore,
            label_smoothing=word.label_smoothing,
            reduction="sum",
        )
        learnt = target.numel() if word.average == "all" else (target != ignore).sum().clamp(min=1)
        return total / learnt

    return criterion


def dice(word: Dice, classes: int, ignore: int) -> Criterion:
    """1 - 2 |P T| / (|P| + |T|) of each class over the whole batch, P the softmax, averaged over classes."""
    _check_ignore(word.ignore, ignore)
    first = 0 if word.background else 1

    def criterion(logits: Tensor, target: Tensor) -> Tensor:
        valid = target != ignore  # (N, H, W)
        probability = logits.softmax(1) * valid[:, None]  # (N, C, H, W)
        terms = []
        for k in range(first, classes):
            truth = (target == k).to(logits.dtype)
            overlap, sizes = (probability[:, k] * truth).sum(), probability[:, k].sum() + truth.sum()
            terms.append(1 - (2 * overlap + word.smooth) / (sizes + word.smooth))
        return torch.stack(terms).mean()

    return criterion


def weighted_sum(word: WeightedSum, classes: int, ignore: int) -> Criterion:
    """The sum of other criteria, each times its weight."""
    weights = word.weights or (1.0,) * len(word.losses)
    if len(weights) != len(word.losses):
        raise fail(
            "loss-weights-count",
            f"`WeightedSum` has {len(word.losses)} losses and {len(weights)} weights",
            "give one weight for each loss, or leave `weights` out",
        )
    terms = [
        (weight, build_criterion(loss, classes, ignore)) for weight, loss in zip(weights, word.losses, strict=True)
    ]

    def criterion(logits: Tensor, target: Tensor) -> Tensor:
        return torch.stack([weight * term(logits, target) for weight, term in terms]).sum()

    return criterion


def _class_weights(word: CrossEntropy, classes: int) -> Tensor | None:
    if word.class_weights is None:
        return None
    if len(word.class_weights) != classes:
        raise fail(
            "class-weights-count",
            f"`class_weights` has {len(word.class_weights)} numbers for {classes} classes",
            "give one weight for each class, in the order of `data.classes`",
        )
    return torch.tensor(word.class_weights)


def _check_ignore(said: int | None, ignore: int) -> None:
    if said is not None and said != ignore:
        raise fail(
            "ignore-differs",
            f"the loss ignores mask value {said}, the data {ignore}",
            "write `ignore = data.ignore` in the loss, or leave it out",
        )


REALISATIONS: dict[type[Loss], Callable[[Any, int, int], Criterion]] = {
    CrossEntropy: cross_entropy,
    Dice: dice,
    WeightedSum: weighted_sum,
}
"""The realisation of every loss word."""
