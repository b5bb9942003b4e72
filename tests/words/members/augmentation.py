"""An augmentation that segdsl does not have, and its implementation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from segdsl.data.augment.pipeline import STEPS
from segdsl.data.augment.sample import AugmentContext, Rng, Sample
from segdsl.ir.families import Augmentation
from segdsl.ir.fields import Probability


class HalfTurn(Augmentation):
    """Turn the image upside down, without mirroring it."""

    aliases = ("rot180 rotate_180",)
    gallery_arguments: ClassVar[Mapping[str, Any]] = {"p": 0.9}

    p: Probability = 0.5
    """Probability of the turn."""

    @property
    def turns_upside_down(self) -> bool:
        return self.p > 0


TURNS: list[float] = []
"""The probability of the turn at each application."""


def turn_half(word: HalfTurn, sample: Sample, rng: Rng, context: AugmentContext) -> Sample:
    """Turn image and mask upside down, with the probability of the word."""
    TURNS.append(word.p)
    if rng.random() >= word.p:
        return sample
    return Sample(np.ascontiguousarray(sample.image[::-1, ::-1]), np.ascontiguousarray(sample.mask[::-1, ::-1]))


STEPS[HalfTurn] = turn_half
