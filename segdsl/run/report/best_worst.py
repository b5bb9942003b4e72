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
from segdsl.run.engine.validate import predicted
from segdsl.scores.confusion import Confusion

SHOWN = 4
"""Maximum number of best and of worst images."""


@dataclass(frozen=True, slots=True, order=True)
class Ranked:
    """The mean Dice of an image over the classes in its mask or prediction, and its position in the subset.

    ``prediction`` has uint8 class ids (H, W) at input size.
    """

    # The order of the fields is the order of the ranking: by Dice, then by position.
    dice: float
    position: int
    prediction: np.ndarray = field(compare=False)


@dataclass(frozen=True, slots=True)
class Ranking:
    """The confusion matrix over all images, and the best and worst of the images that have a pixel to score."""

    confusion: Confusion
    best: tuple[Ranked, ...]
    worst: tuple[Ranked, ...]


def validation_loader(program: Program, index: Index) -> EvalLoader:
    """Build the loader of the program's validation subset, for a single pass."""
    data = program.data
    samples = EvalDataset(index, data.val.subset, (data.input_size.height, data.input_size.width))
    return EvalLoader(samples, data.val.batch, data.val.workers)


@torch.inference_mode()
def ranked(network: nn.Module, batches: EvalLoader, classes: tuple[str, ...], ignore: int) -> Ranking:
    """Score every image of ``batches`` as validation does; switch ``network`` to evaluation mode."""
    network.eval()
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    whole, position, scored = Confusion(classes, ignore), 0, 0
    low: list[Ranked] = []
    high: list[Ranked] = []
    for batch in batches:
        predictions = predicted(network(batch.images.to(device))).cpu().numpy()  # (N, H, W)
        for prediction, target in zip(predictions, batch.target.numpy(), strict=True):
            single = Confusion(classes, ignore)
            single.update(prediction, target)
            whole.counts += single.counts
            if single.pixels:
                scored += 1
                entry = Ranked(single.dice, position, prediction.astype(np.uint8))
                insort(low, entry)
                insort(high, entry)
                # Cut at once, so that memory does not grow with the number of images.
                del low[SHOWN:], high[:-SHOWN]
            position += 1
    # With few images, both lists contain the same ones: the worst half goes to `worst`.
    worst = low[: (scored + 1) // 2]
    taken = {entry.position for entry in worst}
    return Ranking(whole, tuple(e for e in reversed(high) if e.position not in taken), tuple(worst))
