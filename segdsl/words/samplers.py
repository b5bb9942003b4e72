"""Samplers: how often an epoch uses each training image.

Each word has its realisation in ``segdsl/data/stats/samplers.py``.
"""

from __future__ import annotations

from typing import Annotated

from annotated_types import Gt, Le

from segdsl.ir.program import Sampler


class ClassBalanced(Sampler):
    """Draws every class equally often, then an image that shows it (Shen et al., Relay Backpropagation, section 5.2).

    An epoch is as long as without it. Images that show rare classes come several times, others not in every epoch, and
    those that are all void never. Not for sets in which one class is in nearly no image: its few images would be learnt
    by heart.
    """


class RepeatFactor(Sampler):
    """Repeats images that show rare classes (Gupta et al., LVIS, section 5.3); every image comes once at least.

    A class that the share f of all images shows is repeated max(1, sqrt(threshold / f)) times, an image as often as
    its rarest class; an epoch becomes longer by that. Not for sets whose classes are all in most images: then it
    changes nothing, and `class_weights` of the loss does more.
    """

    threshold: Annotated[float, Gt(0), Le(1)] = 0.1
    """Share of the images below which a class is rare."""
