"""The scores of single images: which are met best, and which worst."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from segdsl.run.boundary import Boundaries
from segdsl.run.metrics import Confusion

if TYPE_CHECKING:
    from torch import nn

    from segdsl.data.loader import EvalLoader
    from segdsl.run.criterion import Criterion


@dataclass(frozen=True, slots=True)
class ImageScore:
    """What one image of a subset scores: its place there, its file, its counts, and its loss where one was asked for.

    ``confusion.dice`` is its mean Dice over the classes that it shows or was said to show, nan where all is void;
    ``confusion.dice_by_class`` has nan for the others. ``void`` counts its pixels that are not scored; ``boundary`` is
    the boundary F1 of each class, where that was asked for.
    """

    position: int
    path: Path
    confusion: Confusion
    void: int
    loss: float = float("nan")
    boundary: npt.NDArray[np.float64] | None = None


def image_score(
    position: int, path: Path, prediction: npt.NDArray[np.integer], target: npt.NDArray[np.integer],
    classes: Sequence[str], ignore: int, loss: float = float("nan"), boundaries: Boundaries | None = None,
) -> ImageScore:  # fmt: skip
    """The score of an image from predicted and true class ids (H, W); it is added to ``boundaries``."""
    confusion = Confusion(classes, ignore)
    confusion.update(prediction, target)
    boundary = boundaries.update(prediction, target) if boundaries else None
    return ImageScore(position, path, confusion, target.size - confusion.pixels, loss, boundary)


def scores_by_image(
    network: nn.Module, loader: EvalLoader, classes: Sequence[str], ignore: int, criterion: Criterion | None = None
) -> Iterator[ImageScore]:
    """The score of every image of ``loader``, in its order, at input size; one batch is held at a time.

    ``network`` takes uint8 images (N, C, H, W), as that of :class:`~segdsl.run.setup.Setup` does, and is put into
    evaluation mode. With ``criterion`` each has its loss, too. Raises SegError for a file that cannot be read.
    """
    import torch

    from segdsl.run.evaluate import predicted

    network.eval()
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    position = 0
    for batch in loader:
        with torch.inference_mode():
            logits = network(batch.images.to(device))  # (N, classes, H, W)
            ids = predicted(logits).cpu().numpy()
            target = batch.target.to(device).long()
            losses = [float(criterion(logits[k : k + 1], target[k : k + 1])) if criterion else float("nan")
                      for k in range(len(logits))]  # fmt: skip
        for prediction, true, loss in zip(ids, batch.target.numpy(), losses, strict=True):
            yield image_score(position, loader.dataset.path(position), prediction, true, classes, ignore, loss)
            position += 1
