"""The augmentation pipeline: applies steps to image and mask together, in uint8.

The words are in ``segdsl/words/augmentations.py``, their implementations in ``geometry``, ``photometry`` and
``mixing``. All random numbers come from a counter-based generator, so that a sample depends on seed, epoch and position
only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from segdsl.data.augment import geometry, mixing, photometry
from segdsl.data.augment.lazy import Pending
from segdsl.data.augment.sample import Rng, Sample, Setting, Step, fit
from segdsl.ir.program import Augmentation
from segdsl.words.augmentations import RandomResizedCrop

STEPS: dict[type[Augmentation], Step] = {**geometry.STEPS, **photometry.STEPS, **mixing.STEPS}
"""The implementation of every augmentation word."""
Drawn = Sample | Pending
Others = Callable[[Rng], Drawn]
"""A function that draws another sample of the same subset, before any step."""


def augment(
    steps: Sequence[Augmentation], sample: Drawn, rng: Rng, setting: Setting, others: Others | None = None
) -> Sample:
    """Apply the steps in order, and resize the result to the input size if no step has done so.

    ``draw_other`` draws samples to mix in; each of them goes through the steps before the one that mixes. The input
    arrays may be returned as they are, but are never changed in place.
    """
    return fit(after(steps, sample, rng, setting, others), setting.size)


def after(
    steps: Sequence[Augmentation], sample: Drawn, rng: Rng, setting: Setting, others: Others | None = None
) -> Sample:
    """Return the sample after these steps, at the size that they produce.

    A :class:`LazySample` is decoded at reduced size if the first step crops it and the reduced size suffices.
    """
    for number in range(len(steps)):
        sample = _after_one(steps, number, sample, rng, setting, others)
    return _whole(sample)


def stages(
    steps: Sequence[Augmentation], sample: Drawn, rng: Rng, setting: Setting, others: Others | None = None
) -> Iterator[Sample]:
    """Yield the original sample, then the sample after each step, and last the sample at the input size."""
    yield _whole(sample)
    for number in range(len(steps)):
        sample = _after_one(steps, number, sample, rng, setting, others)
        yield sample
    yield fit(_whole(sample), setting.size)


def _after_one(
    steps: Sequence[Augmentation], number: int, sample: Drawn, rng: Rng, setting: Setting, others: Others | None
) -> Sample:
    word = steps[number]
    # Cropping first and decoding at a fraction of the size saves most of the time of large JPEG files.
    if isinstance(sample, Pending) and isinstance(word, RandomResizedCrop):
        return sample.cut(word, rng, setting)
    return STEPS[type(word)](word, _whole(sample), rng, _with_partner(steps[:number], setting, others))


def _whole(sample: Drawn) -> Sample:
    return sample.whole() if isinstance(sample, Pending) else sample


def _with_partner(before: Sequence[Augmentation], setting: Setting, others: Others | None) -> Setting:
    if others is None:
        return setting
    # The partner passes the steps before the current one only, so that both have the same size and it is not mixed
    # itself by this step.
    return setting._replace(partner=lambda rng: after(before, others(rng), rng, setting, others))
