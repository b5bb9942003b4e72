"""Loss functions: one builder for each loss word of the language, from logits and targets to a scalar."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from segdsl.diagnostics import fail
from segdsl.ir.program import Loss
from segdsl.words.losses import CrossEntropy, Dice, Focal, WeightedSum

Criterion = Callable[[Tensor, Tensor], Tensor]
"""Maps logits (N, C, H, W) and targets (N, H, W, int64) to a scalar."""


def build_criterion(loss: Loss, classes: int, ignore: int) -> Criterion:
    """Build the criterion of a loss word for ``classes`` classes; its result is float32 even for half-precision logits.

    Raises SegError if the loss does not fit the data (`ignore-differs`, `class-weights-count`).
    """
    realised = CRITERION_BUILDERS[type(loss)](loss, classes, ignore)

    def compute_loss(logits: Tensor, target: Tensor) -> Tensor:
        # Single precision whatever the network runs in: sums over a million pixels lose most of their digits in
        # half.
        with torch.autocast(logits.device.type, enabled=False):
            return realised(logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits, target)

    return compute_loss


def build_cross_entropy(word: CrossEntropy, classes: int, ignore: int) -> Criterion:
    """Build cross entropy, averaged over the learnt pixels or over all; a batch of only ignored pixels costs 0."""
    _check_ignore(word.ignore, ignore)
    weights = _build_class_weights(word, classes)

    def compute_loss(logits: Tensor, target: Tensor) -> Tensor:
        pixels = F.cross_entropy(
            logits,
            target,
            weight=None if weights is None else weights.to(logits),
            ignore_index=ignore,
            label_smoothing=word.label_smoothing,
            reduction="none",
        )  # (N, H, W), 0 where ignored
        if word.hardest == 1:
            return _average_pixels(pixels, target, ignore, word.average)
        learnt = pixels[target != ignore]
        # Online hard example mining: at least one pixel is learnt from where there is any.
        hardest = learnt.topk(max(round(word.hardest * len(learnt)), min(len(learnt), 1)), sorted=False).values
        return hardest.sum() / (word.hardest * target.numel() if word.average == "all" else max(len(hardest), 1))

    return compute_loss


def build_dice(word: Dice, classes: int, ignore: int) -> Criterion:
    """Build soft Dice: 1 - 2 |P T| / (|P| + |T|) of each class over the batch, P the softmax, averaged over classes."""
    _check_ignore(word.ignore, ignore)
    first = 0 if word.background else 1

    def compute_loss(logits: Tensor, target: Tensor) -> Tensor:
        valid = target != ignore  # (N, H, W)
        probability = logits.softmax(1) * valid[:, None]  # (N, C, H, W)
        # The ignore value is no valid index for `gather`; the pixels that become class 0 here have probability 0.
        known = target.where(valid, 0)
        right = probability.gather(1, known[:, None])[:, 0]  # (N, H, W), 0 where ignored
        overlap = _sum_by_class(right, known, classes)
        sizes = probability.sum((0, 2, 3)) + _sum_by_class(valid.to(right), known, classes)
        scores = (2 * overlap + word.smooth) / (sizes + word.smooth)
        return 1 - scores[first:].mean()

    return compute_loss


def build_focal(word: Focal, classes: int, ignore: int) -> Criterion:
    """Build focal loss: -w (1 - p) ** gamma log p of each pixel, averaged over the learnt pixels or over all."""
    _check_ignore(word.ignore, ignore)
    weights = _build_class_weights(word, classes)

    def compute_loss(logits: Tensor, target: Tensor) -> Tensor:
        cost = F.cross_entropy(logits, target, ignore_index=ignore, reduction="none")  # (N, H, W), -log p
        # Clamp to eps: the gradient of x ** gamma is undefined at 0 for gamma < 1. `expm1` keeps the digits of 1 - p
        # where p is close to 1.
        unsure = (-torch.expm1(-cost)).clamp(min=torch.finfo(cost.dtype).eps)
        pixels = unsure**word.gamma * cost
        if weights is not None:
            pixels = pixels * weights.to(logits)[target.where(target != ignore, 0)]
        return _average_pixels(pixels, target, ignore, word.average)

    return compute_loss


def build_weighted_sum(word: WeightedSum, classes: int, ignore: int) -> Criterion:
    """Build the sum of other criteria, each multiplied by its weight."""
    weights = word.weights or (1.0,) * len(word.losses)
    terms = [
        (weight, build_criterion(loss, classes, ignore)) for weight, loss in zip(weights, word.losses, strict=True)
    ]

    def compute_loss(logits: Tensor, target: Tensor) -> Tensor:
        return torch.stack([weight * term(logits, target) for weight, term in terms]).sum()

    return compute_loss


def _average_pixels(pixels: Tensor, target: Tensor, ignore: int, average: str) -> Tensor:
    """Return the mean of costs (N, H, W), which are 0 where ignored, over the learnt pixels or over all."""
    return pixels.sum() / (target.numel() if average == "all" else (target != ignore).sum().clamp(min=1))


def _sum_by_class(values: Tensor, target: Tensor, classes: int) -> Tensor:
    """Return the sum of values (N, H, W) over the pixels of each class, (C,)."""
    # Each row is summed by itself first: added one by one to a float32 sum of millions, later values are rounded
    # away.
    width = target.shape[-1]
    lines = values.new_zeros(target.numel() // width, classes)
    return lines.scatter_add(1, target.reshape(-1, width), values.reshape(-1, width)).sum(0)


def _build_class_weights(word: CrossEntropy | Focal, classes: int) -> Tensor | None:
    if word.class_weights is None:
        return None
    assert word.class_weights != "auto", "`replace_auto_weights` comes first"
    if len(word.class_weights) != classes:
        raise fail(
            "class-weights-count",
            f"`class_weights` has {len(word.class_weights)} numbers for {classes} classes",
            "write one weight for each class, in the order of `data.classes`",
        )
    return torch.tensor(word.class_weights)


def _check_ignore(loss_ignore: int | None, ignore: int) -> None:
    if loss_ignore is not None and loss_ignore != ignore:
        raise fail(
            "ignore-differs",
            f"the loss ignores mask value {loss_ignore}, but the dataset ignores {ignore}",
            "write `ignore = data.ignore` in the loss, or remove its `ignore`",
        )


CRITERION_BUILDERS: dict[type[Loss], Callable[[Any, int, int], Criterion]] = {
    CrossEntropy: build_cross_entropy,
    Dice: build_dice,
    Focal: build_focal,
    WeightedSum: build_weighted_sum,
}
"""The builder of every loss word."""
