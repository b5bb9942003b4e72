"""The scores of single images: which are met best, and which worst."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from segdsl.scores.boundary import Boundaries
from segdsl.scores.confusion import Confusion


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
