"""What the process that quantizes is told: paths and settings, as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from segdsl.inference.preprocess import Image, prepare, raw
from segdsl.ir.values import Size

TOLD = "@told "
"""What that process says behind this mark is for people."""


@dataclass(frozen=True, slots=True)
class Job:
    """A model in single precision, where the one of 8 bits goes, and what decides how far it may go.

    ``calibration`` and ``trials`` are arrays of images (N, h, w, C) at the input's size, ``masks`` (N, h, w) are those
    of the trials; ``normalize`` is None where the model normalises by itself. ``most_loss`` is how much Dice may be
    lost, ``attention`` says that the network is a transformer.
    """

    model: str
    out: str
    calibration: str
    trials: str
    masks: str
    classes: tuple[str, ...]
    void: int
    normalize: str | None
    hard: bool
    shift: int
    logits: str
    most_loss: float
    attention: bool

    def as_json(self) -> dict[str, Any]:
        """The job as JSON has it."""
        return asdict(self)

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> Job:
        """The job that :meth:`as_json` gave."""
        return cls(**{**said, "classes": tuple(said["classes"])})

    def fed(self, image: Image) -> npt.NDArray[np.float32]:
        """What the model takes of an image (h, w, C) at its size, (1, C, h, w)."""
        size = Size(image.shape[0], image.shape[1])
        return raw(image, size) if self.normalize is None else prepare(image, size, self.normalize)
