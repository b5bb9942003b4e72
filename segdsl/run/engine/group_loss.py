"""Several batches that make one optimizer step: their groups, and a loss whose parts add up to that of them all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import torch
from torch import Tensor

from segdsl.ir.program import Loss
from segdsl.run.engine.criterion import Criterion, build_criterion
from segdsl.words.losses import WeightedSum

T = TypeVar("T")


def groups(batches: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of ``size`` batches; the last one of an epoch is what is left."""
    source = iter(batches)
    while group := list(islice(source, size)):
        yield group


@dataclass(frozen=True, slots=True)
class Term:
    """One loss of a sum: its ``weight``, its ``criterion``, and ``count``, how much of a target that is a mean over."""

    weight: float
    criterion: Criterion
    count: Callable[[Tensor], int]


@dataclass(frozen=True, slots=True)
class GroupLoss:
    """The loss of a group, batch by batch.

    A mean over the learnt pixels of four batches is not the mean of the four means: a batch with much void would weigh
    as much as one without. So each batch counts by its share of what the mean is over: cross entropy of four batches
    is exactly that of one batch of all their images. Dice is a ratio of sums over the batch, which parts do not add up
    to; there the mean of the batches is taken, by their images.
    """

    terms: tuple[Term, ...]

    def shares(self, targets: Sequence[Tensor]) -> list[list[float]]:
        """The share of every batch, by term, from targets (N, H, W) on the host. Those of a term add up to 1."""
        if len(targets) == 1:
            return [[1.0] * len(self.terms)]
        counts = [[term.count(target) for term in self.terms] for target in targets]  # batch by term
        totals = [max(sum(column), 1) for column in zip(*counts, strict=True)]
        return [[count / total for count, total in zip(row, totals, strict=True)] for row in counts]

    def part(self, logits: Tensor, target: Tensor, shares: Sequence[float]) -> Tensor:
        """The part of one batch: logits (N, C, H, W), target (N, H, W) int64 and its ``shares`` to a number."""
        parts = [
            share * term.weight * term.criterion(logits, target) for share, term in zip(shares, self.terms, strict=True)
        ]
        return torch.stack(parts).sum()


def group_loss(loss: Loss, classes: int, ignore: int) -> GroupLoss:
    """The loss of a program for groups of batches. Raises SegError as building the criterion does."""
    return GroupLoss(tuple(_terms(loss, 1.0, classes, ignore)))


def _terms(loss: Loss, weight: float, classes: int, ignore: int) -> Iterator[Term]:
    if isinstance(loss, WeightedSum):
        weights = loss.weights or (1.0,) * len(loss.losses)
        for inner, factor in zip(loss.losses, weights, strict=True):
            yield from _terms(inner, weight * factor, classes, ignore)
        return
    counts: dict[str, Callable[[Tensor], int]] = {
        "valid": lambda target: int((target != ignore).sum()),
        "all": lambda target: target.numel(),
    }
    yield Term(weight, build_criterion(loss, classes, ignore), counts.get(getattr(loss, "average", ""), len))
