"""The job of the quantization process: paths and settings, passed to it as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from segdsl.inference.preprocess import Image, preprocess_image, preprocess_raw
from segdsl.ir.values import Size

PROGRESS_MARK = "@told "
"""Output lines of that process that begin with this mark are progress messages."""


@dataclass(frozen=True, slots=True)
class QuantizationJob:
    """Files and settings for the quantization of one model.

    ``model`` is the `.xml` in single precision, ``out`` the 8-bit one to write. ``calibration`` and ``trials`` are
    files with arrays of images (N, h, w, C) at input size, ``masks`` (N, h, w) belongs to ``trials``. ``normalize`` is
    None if the model normalizes its input itself. At most ``max_dice_loss`` of Dice may be lost.
    """

    # Paths are strings, so that the job converts to JSON as it is.
    model: str
    out: str
    calibration: str
    trials: str
    masks: str
    classes: tuple[str, ...]
    ignore: int
    normalize: str | None
    is_hard: bool
    channel_offset: int
    logits_name: str
    max_dice_loss: float
    has_attention: bool

    def to_json(self) -> dict[str, Any]:
        """Return the job for JSON; :meth:`from_json` reads it."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> QuantizationJob:
        """Build the job from the result of :meth:`to_json`."""
        return cls(**{**values, "classes": tuple(values["classes"])})

    def make_input(self, image: Image) -> npt.NDArray[np.float32]:
        """Convert an image (h, w, C) at input size to the model's input (1, C, h, w)."""
        size = Size(image.shape[0], image.shape[1])
        return preprocess_raw(image, size) if self.normalize is None else preprocess_image(image, size, self.normalize)
