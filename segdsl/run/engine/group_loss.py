"""Gradient accumulation: groups of batches that make one optimizer step, and a loss whose parts add up exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import torch
from torch import Tensor

from segdsl.ir.families import Loss, Reduction
from segdsl.run.engine.criterion import Criterion, build_criterion

T = TypeVar("T")


def group_batches(batches: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield lists of ``size`` batches; the last one of an epoch may be shorter."""
    source = iter(batches)
    while group := list(islice(source, size)):
        yield group


@dataclass(frozen=True, slots=True)
class LossTerm:
    """One loss of a sum, with its weight.

    ``count`` returns how many elements of a target the mean of its ``criterion`` is over.
    """

    weight: float
    criterion: Criterion
    count: Callable[[Tensor], int]


@dataclass(frozen=True, slots=True)
class GroupLoss:
    """The loss of a group, computed batch by batch.

    Each batch is weighted by its share of what the mean is over, so that cross entropy of four batches is exactly that
    of one batch with all their images. Dice is a ratio of sums over the batch and cannot be split like that; there the
    mean of the batches is taken, weighted by their images.
    """

    terms: tuple[LossTerm, ...]

    def compute_shares(self, targets: Sequence[Tensor]) -> list[list[float]]:
        """Return the share of every batch, by term, from targets (N, H, W) on the host; each term's add up to 1."""
        if len(targets) == 1:
            return [[1.0] * len(self.terms)]
        # The mean over the learnt pixels of four batches is not the mean of the four means: a batch of mostly
        # ignored pixels would weigh as much as one without any. So pixels are counted before anything is divided.
        counts = [[term.count(target) for term in self.terms] for target in targets]  # batch by term
        # A group of only ignored pixels has a total of 0; its loss is 0 whatever it is divided by.
        totals = [max(sum(column), 1) for column in zip(*counts, strict=True)]
        return [[count / total for count, total in zip(row, totals, strict=True)] for row in counts]

    def compute_part(self, logits: Tensor, target: Tensor, shares: Sequence[float]) -> Tensor:
        """Return the part of one batch, a scalar: logits (N, C, H, W), target (N, H, W) int64, ``shares`` by term."""
        parts = [
            share * term.weight * term.criterion(logits, target) for share, term in zip(shares, self.terms, strict=True)
        ]
        return torch.stack(parts).sum()


def build_group_loss(loss: Loss, classes: int, ignore: int) -> GroupLoss:
    """Return the loss of a program for groups of batches. Raises SegError as building the criterion does."""
    return GroupLoss(
        tuple(
            LossTerm(weight, build_criterion(term, classes, ignore), _count_elements(term.get_reduction(), ignore))
            for weight, term in loss.iterate_terms()
        )
    )


def _count_elements(reduction: Reduction, ignore: int) -> Callable[[Tensor], int]:
    """Return the function that counts what the mean over a batch with the target (N, H, W) is over."""
    counts: dict[Reduction, Callable[[Tensor], int]] = {
        "valid": lambda target: int((target != ignore).sum()),
        "all": lambda target: target.numel(),
        "images": len,
    }
    return counts[reduction]
