"""The augmentation pipeline: applies steps to image and mask together, in uint8.

The words are in ``segdsl/words/augmentations.py``, their implementations in ``geometry``, ``photometry`` and
``mixing``. All random numbers come from a counter-based generator, so that a sample depends on seed, epoch and position
only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from segdsl.data.augment import geometry, mixing, photometry
from segdsl.data.augment.lazy import LazySample
from segdsl.data.augment.sample import AugmentContext, Rng, Sample, Step, fit_sample
from segdsl.ir.program import Augmentation
from segdsl.words.augmentations import RandomResizedCrop

STEPS: dict[type[Augmentation], Step] = {**geometry.STEPS, **photometry.STEPS, **mixing.STEPS}
"""The implementation of every augmentation word."""
LAZY_STEPS: dict[type[Augmentation], Callable[[LazySample, Any, Rng, AugmentContext], Sample]] = {
    RandomResizedCrop: LazySample.decode_crop
}
"""The implementations that decode the image themselves, at the size that they need."""
AnySample = Sample | LazySample
DrawOther = Callable[[Rng], AnySample]
"""A function that draws another sample of the same subset, before any step."""


def apply_augmentations(
    words: Sequence[Augmentation],
    sample: AnySample,
    rng: Rng,
    context: AugmentContext,
    draw_other: DrawOther | None = None,
) -> Sample:
    """Apply the steps in order, and resize the result to the input size if no step has done so.

    ``draw_other`` draws samples to mix in; each of them goes through the steps before the one that mixes. The input
    arrays may be returned as they are, but are never changed in place.
    """
    return fit_sample(apply_steps(words, sample, rng, context, draw_other), context.size)


def apply_steps(
    words: Sequence[Augmentation],
    sample: AnySample,
    rng: Rng,
    context: AugmentContext,
    draw_other: DrawOther | None = None,
) -> Sample:
    """Return the sample after these steps, at the size that they produce.

    A :class:`LazySample` is decoded at reduced size if the first step crops it and the reduced size suffices.
    """
    for number in range(len(words)):
        sample = _apply_step(words, number, sample, rng, context, draw_other)
    return _decode_fully(sample)


def iterate_stages(
    words: Sequence[Augmentation],
    sample: AnySample,
    rng: Rng,
    context: AugmentContext,
    draw_other: DrawOther | None = None,
) -> Iterator[Sample]:
    """Yield the original sample, then the sample after each step, and last the sample at the input size."""
    yield _decode_fully(sample)
    for number in range(len(words)):
        sample = _apply_step(words, number, sample, rng, context, draw_other)
        yield sample
    yield fit_sample(_decode_fully(sample), context.size)


def _apply_step(
    words: Sequence[Augmentation],
    number: int,
    sample: AnySample,
    rng: Rng,
    context: AugmentContext,
    draw_other: DrawOther | None,
) -> Sample:
    word = words[number]
    # Cropping first and decoding at a fraction of the size saves most of the time of large JPEG files.
    if isinstance(sample, LazySample) and type(word) in LAZY_STEPS:
        return LAZY_STEPS[type(word)](sample, word, rng, context)
    return STEPS[type(word)](word, _decode_fully(sample), rng, _add_partner(words[:number], context, draw_other))


def _decode_fully(sample: AnySample) -> Sample:
    return sample.decode_fully() if isinstance(sample, LazySample) else sample


def _add_partner(
    earlier_words: Sequence[Augmentation], context: AugmentContext, draw_other: DrawOther | None
) -> AugmentContext:
    if draw_other is None:
        return context
    # The partner passes the steps before the current one only, so that both have the same size and it is not mixed
    # itself by this step.
    return context._replace(partner=lambda rng: apply_steps(earlier_words, draw_other(rng), rng, context, draw_other))
