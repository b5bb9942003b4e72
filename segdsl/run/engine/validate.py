"""Scoring a torch model on a subset, at the input size of the network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from segdsl.run.engine.criterion import Criterion
from segdsl.scores.confusion import Confusion

Batches = Iterable[Any]
"""Batches with ``images``, uint8 (N, C, H, W), and ``target``, uint8 (N, H, W)."""


@torch.inference_mode()
def score_model(
    model: nn.Module, batches: Batches, classes: Sequence[str], ignore: int, criterion: Criterion | None
) -> tuple[Confusion, float]:
    """Return the counts over all batches, and the mean loss per image (nan without criterion).

    Puts the model in eval mode.
    """
    model.eval()
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    confusion, total, images = Confusion(classes, ignore), 0.0, 0
    for batch in batches:
        logits = model(batch.images.to(device))  # (N, classes, H, W)
        if criterion is not None:
            # Weighted by images, so that a smaller last batch does not count as much as a full one.
            total += float(criterion(logits, batch.target.to(device).long())) * len(logits)
        images += len(logits)
        confusion.update(predict_classes(logits).cpu().numpy(), batch.target.numpy())
    return confusion, total / images if criterion is not None and images else float("nan")


def predict_classes(logits: Tensor) -> Tensor:
    """Return the class of every pixel, (N, C, H, W) to (N, H, W)."""
    # On a CPU, torch's argmax over the channels of a contiguous map takes ten times as long as max.
    return logits.max(dim=1).indices
