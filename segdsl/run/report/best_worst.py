"""One pass over the validation subset with a run's weights: the counts of all images, and those that went best and
worst."""

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
"""So many of the best, and of the worst images are kept."""


@dataclass(frozen=True, slots=True, order=True)
class Ranked:
    """An image by its mean Dice over the classes on either side, and by its position in the subset; the ``prediction``,
    uint8 ids (H, W), is of the size that the network sees."""

    dice: float
    position: int
    prediction: np.ndarray = field(compare=False)


@dataclass(frozen=True, slots=True)
class Ranking:
    """The counts over all images, and of those with a pixel to score the best and the worst, none of them both."""

    confusion: Confusion
    best: tuple[Ranked, ...]
    worst: tuple[Ranked, ...]


def validation_loader(program: Program, index: Index) -> EvalLoader:
    """The batches on which a program is scored, for one pass: nothing of them is kept."""
    data = program.data
    samples = EvalDataset(index, data.val.subset, (data.input_size.height, data.input_size.width))
    return EvalLoader(samples, data.val.batch, data.val.workers)


@torch.inference_mode()
def ranked(network: nn.Module, batches: EvalLoader, classes: tuple[str, ...], ignore: int) -> Ranking:
    """Scores every image of ``batches``, as a validation does; sets eval mode."""
    network.eval()
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    whole, position, scored = Confusion(classes, ignore), 0, 0
    low: list[Ranked] = []
    high: list[Ranked] = []
    for batch in batches:
        predictions = predicted(network(batch.images.to(device))).cpu().numpy()  # (N, H, W)
        for prediction, target in zip(predictions, batch.target.numpy(), strict=True):
            one = Confusion(classes, ignore)
            one.update(prediction, target)
            whole.counts += one.counts
            if one.pixels:
                scored += 1
                entry = Ranked(one.dice, position, prediction.astype(np.uint8))
                insort(low, entry)
                insort(high, entry)
                del low[SHOWN:], high[:-SHOWN]
            position += 1
    worst = low[: (scored + 1) // 2]
    taken = {entry.position for entry in worst}
    return Ranking(whole, tuple(e for e in reversed(high) if e.position not in taken), tuple(worst))
