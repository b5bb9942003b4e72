"""One pass over the validation subset with a run's weights: the confusion matrix, and the best and worst images."""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from segdsl.data.check.index import Index
from segdsl.data.loading.dataset import EvalDataset
from segdsl.data.loading.loader import EvalLoader
from segdsl.ir.program import Program
from segdsl.run.engine.validate import predict_classes
from segdsl.scores.confusion import Confusion

MAX_IMAGES = 4
"""Maximum number of best and of worst images."""


@dataclass(frozen=True, slots=True, order=True)
class ImageRank:
    """The mean Dice of an image over the classes in its mask or prediction, and its position in the subset.

    ``prediction`` has uint8 class ids (H, W) at input size.
    """

    # The order of the fields is the order of the ranking: by Dice, then by position.
    dice: float
    position: int
    prediction: np.ndarray = field(compare=False)


@dataclass(frozen=True, slots=True)
class ImageRanking:
    """The confusion matrix over all images, and the best and worst of the images that have a pixel to score."""

    confusion: Confusion
    best: tuple[ImageRank, ...]
    worst: tuple[ImageRank, ...]


def build_validation_loader(program: Program, index: Index) -> EvalLoader:
    """Build the loader of the program's validation subset, for a single pass."""
    data = program.data
    samples = EvalDataset(index, data.val.subset, (data.input_size.height, data.input_size.width))
    return EvalLoader(samples, data.val.batch, data.val.workers)


@torch.inference_mode()
def rank_images(network: nn.Module, batches: EvalLoader, classes: tuple[str, ...], ignore: int) -> ImageRanking:
    """Score every image of ``batches`` as validation does; switch ``network`` to evaluation mode."""
    network.eval()
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    whole, position, scored = Confusion(classes, ignore), 0, 0
    low: list[ImageRank] = []
    high: list[ImageRank] = []
    for batch in batches:
        predictions = predict_classes(network(batch.images.to(device))).cpu().numpy()  # (N, H, W)
        for prediction, target in zip(predictions, batch.target.numpy(), strict=True):
            single = Confusion(classes, ignore)
            single.update(prediction, target)
            whole.counts += single.counts
            if single.pixel_count:
                scored += 1
                entry = ImageRank(single.dice, position, prediction.astype(np.uint8))
                insort(low, entry)
                insort(high, entry)
                # Cut at once, so that memory does not grow with the number of images.
                del low[MAX_IMAGES:], high[:-MAX_IMAGES]
            position += 1
    # With few images, both lists contain the same ones: the worst half goes to `worst`.
    worst = low[: (scored + 1) // 2]
    taken = {entry.position for entry in worst}
    return ImageRanking(whole, tuple(e for e in reversed(high) if e.position not in taken), tuple(worst))
