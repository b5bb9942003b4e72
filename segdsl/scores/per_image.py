"""Scores of single images, to find the best and the worst."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from segdsl.scores.boundary import BoundaryScores
from segdsl.scores.confusion import Confusion


@dataclass(frozen=True, slots=True)
class ImageScore:
    """The scores of one image: its position in the subset, its file, and its confusion counts.

    ``confusion.dice`` is the mean Dice over the classes that occur in its mask or its prediction, nan if all pixels are
    ignored; ``confusion.dice_by_class`` has nan for the other classes. ``void_pixels`` counts its ignored pixels;
    ``boundary`` is the boundary F1 of each class, if computed.
    """

    position: int
    path: Path
    confusion: Confusion
    void_pixels: int
    boundary: npt.NDArray[np.float64] | None = None


def score_image(
    position: int,
    path: Path,
    confusion: Confusion,
    prediction: npt.NDArray[np.integer],
    target: npt.NDArray[np.integer],
    boundaries: BoundaryScores | None = None,
) -> ImageScore:
    """Return the score of an image from predicted and true class ids (H, W).

    The pixels are counted in ``confusion``, which is empty so far, and added to ``boundaries``.
    """
    confusion.update(prediction, target)
    boundary = boundaries.update(prediction, target) if boundaries else None
    return ImageScore(position, path, confusion, target.size - confusion.pixel_count, boundary)
