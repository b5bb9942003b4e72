"""Scoring a torch model on a subset, at the input size of the network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from segdsl.data.loading.loader import EvalLoader
from segdsl.run.engine.criterion import Criterion
from segdsl.scores.confusion import Confusion
from segdsl.scores.per_image import ImageScore, score_image

Batches = Iterable[Any]
"""Batches with ``images``, uint8 (N, C, H, W), and ``target``, uint8 (N, H, W)."""


def count_predictions(model: nn.Module, batches: Batches, classes: Sequence[str], ignore: int) -> Confusion:
    """Return the confusion counts of a model over all batches; ``model`` takes uint8 images."""
    return score_model(model, batches, classes, ignore, None)[0]


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


def score_images(
    network: nn.Module, loader: EvalLoader, classes: Sequence[str], ignore: int, criterion: Criterion | None = None
) -> Iterator[ImageScore]:
    """Yield the score of every image of ``loader``, in its order, at input size; one batch is in memory at a time.

    ``network`` takes uint8 images (N, C, H, W), like that of :class:`~segdsl.run.setup.Setup`, and is put into
    evaluation mode. With ``criterion`` each score has a loss. Raises SegError for a file that cannot be read.
    """
    network.eval()
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    position = 0
    for batch in loader:
        with torch.inference_mode():
            logits = network(batch.images.to(device))  # (N, classes, H, W)
            ids = predict_classes(logits).cpu().numpy()
            target = batch.target.to(device).long()
            # One image at a time: the loss of a batch is a mean that would hide which image is the worst.
            losses = [float(criterion(logits[k : k + 1], target[k : k + 1])) if criterion else float("nan")
                      for k in range(len(logits))]  # fmt: skip
        for prediction, true, loss in zip(ids, batch.target.numpy(), losses, strict=True):
            yield score_image(
                position, loader.dataset.get_image_path(position), prediction, true, classes, ignore, loss
            )
            position += 1
