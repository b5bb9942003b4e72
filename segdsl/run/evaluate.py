"""Scoring a torch model on a subset, at the size that the network sees."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from segdsl.run.criterion import Criterion
from segdsl.run.metrics import Confusion

Batches = Iterable[Any]
"""Batches with ``images``, uint8 (N, C, H, W), and ``target``, uint8 (N, H, W)."""


def evaluate_model(model: nn.Module, batches: Batches, classes: Sequence[str], ignore: int) -> Confusion:
    """The counts of a model over all batches; ``model`` takes the uint8 images."""
    return score(model, batches, classes, ignore, None)[0]


@torch.inference_mode()
def score(
    model: nn.Module, batches: Batches, classes: Sequence[str], ignore: int, criterion: Criterion | None
) -> tuple[Confusion, float]:
    """The counts over all batches, and the mean loss of an image (nan without criterion). Sets eval mode."""
    model.eval()
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    confusion, total, images = Confusion(classes, ignore), 0.0, 0
    for batch in batches:
        logits = model(batch.images.to(device))  # (N, classes, H, W)
        if criterion is not None:
            total += float(criterion(logits, batch.target.to(device).long())) * len(logits)
        images += len(logits)
        confusion.update(predicted(logits).cpu().numpy(), batch.target.numpy())
    return confusion, total / images if criterion is not None and images else float("nan")


def predicted(logits: Tensor) -> Tensor:
    """The class of every pixel, (N, C, H, W) to (N, H, W)."""
    # torch's argmax over the channels of a contiguous map takes ten times as long as max on a CPU
    return logits.max(dim=1).indices
