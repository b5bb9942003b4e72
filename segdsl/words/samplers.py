"""Sampler words: how often an epoch uses each training image.

``segdsl/data/stats/samplers.py`` implements them.
"""

from __future__ import annotations

from typing import Annotated

from annotated_types import Gt, Le

from segdsl.ir.families import Sampler


class ClassBalanced(Sampler):
    """Draw all classes equally often, then an image that shows the class (Shen et al., Relay Backpropagation, section
    5.2).

    The length of an epoch does not change. Images with rare classes are used several times, others not in every epoch,
    and images with only ignored pixels never. Do not use it if a class occurs in very few images: the model would
    memorize them.
    """


class RepeatFactor(Sampler):
    """Repeat images with rare classes; every image is used at least once (Gupta et al., LVIS, section 5.3).

    A class that occurs in a share f of all images has the factor max(1, sqrt(threshold / f)). An image is repeated by
    the largest factor of its classes, and epochs become longer accordingly. If every class occurs in most images, this
    has no effect; use the `class_weights` of the loss instead.
    """

    threshold: Annotated[float, Gt(0), Le(1)] = 0.1
    """Share of the images below which a class counts as rare."""
