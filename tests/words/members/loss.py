"""A loss that segdsl does not have, and its criterion."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Gt, Lt
from torch import Tensor

from segdsl.ir.families import ClassWeights, Loss, Reduction
from segdsl.run.engine.criterion import CRITERION_BUILDERS, Criterion


class Tversky(Loss):
    """One minus the Tversky index of each class (Salehi et al., 2017)."""

    aliases = ("tversky_loss focal_tversky_loss",)

    alpha: Annotated[float, Gt(0), Lt(1)] = 0.3
    """Weight of false positives."""
    factors: ClassWeights = None
    """Factor for each class."""

    def get_reduction(self) -> Reduction:
        return "images"


SEEN_FACTORS: list[object] = []
"""The class weights of every criterion that was built."""


def build_tversky(word: Tversky, classes: int, ignore: int) -> Criterion:
    """Build the Tversky loss, without its class weights."""
    SEEN_FACTORS.append(word.factors)

    def compute_loss(logits: Tensor, target: Tensor) -> Tensor:
        valid = (target != ignore)[:, None]
        classes_axis = torch.arange(classes)[None, :, None, None]
        truth = (target[:, None] == classes_axis) & valid
        guess = logits.softmax(1) * valid
        overlap = (guess * truth).sum((0, 2, 3))
        surplus, missed = (guess * ~truth).sum((0, 2, 3)), ((1 - guess) * truth).sum((0, 2, 3))
        total = overlap + word.alpha * surplus + (1 - word.alpha) * missed
        return 1 - ((overlap + 1) / (total + 1)).mean()

    return compute_loss


CRITERION_BUILDERS[Tversky] = build_tversky
