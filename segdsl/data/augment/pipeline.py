"""Augmentation in uint8, on image and mask together; every random number comes from a counter.

The words are in ``segdsl/words/augmentations.py``, what they do in ``geometry``, ``photometry`` and ``mixing``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from segdsl.data.augment import geometry, mixing, photometry
from segdsl.data.augment.lazy import Pending
from segdsl.data.augment.sample import Rng, Sample, Setting, Step, fit
from segdsl.ir.program import Augmentation
from segdsl.words.augmentations import RandomResizedCrop

STEPS: dict[type[Augmentation], Step] = {**geometry.STEPS, **photometry.STEPS, **mixing.STEPS}
"""The realisation of every augmentation."""
Drawn = Sample | Pending
Others = Callable[[Rng], Drawn]
"""Draws another sample of the same data set, as it is."""


def augment(
    steps: Sequence[Augmentation], sample: Drawn, rng: Rng, setting: Setting, others: Others | None = None
) -> Sample:
    """Applies the steps in order; the result is stretched to the input size if no step has brought it there.

    ``others`` draws samples to mix with; each goes through the steps before the one that mixes. The arrays given may be
    returned as they are, never changed in place.
    """
    return fit(after(steps, sample, rng, setting, others), setting.size)


def after(
    steps: Sequence[Augmentation], sample: Drawn, rng: Rng, setting: Setting, others: Others | None = None
) -> Sample:
    """The sample after these steps, at the size that they give it. A :class:`Pending` one is decoded at a reduced size
    where the first step cuts out of it and that is enough."""
    for number in range(len(steps)):
        sample = _after_one(steps, number, sample, rng, setting, others)
    return _whole(sample)


def stages(
    steps: Sequence[Augmentation], sample: Drawn, rng: Rng, setting: Setting, others: Others | None = None
) -> Iterator[Sample]:
    """The sample as it is, after each of the steps, and at last as :func:`augment` gives it."""
    yield _whole(sample)
    for number in range(len(steps)):
        sample = _after_one(steps, number, sample, rng, setting, others)
        yield sample
    yield fit(_whole(sample), setting.size)


def _after_one(
    steps: Sequence[Augmentation], number: int, sample: Drawn, rng: Rng, setting: Setting, others: Others | None
) -> Sample:
    word = steps[number]
    if isinstance(sample, Pending) and isinstance(word, RandomResizedCrop):
        return sample.cut(word, rng, setting)
    return STEPS[type(word)](word, _whole(sample), rng, _with_partner(steps[:number], setting, others))


def _whole(sample: Drawn) -> Sample:
    return sample.whole() if isinstance(sample, Pending) else sample


def _with_partner(before: Sequence[Augmentation], setting: Setting, others: Others | None) -> Setting:
    if others is None:
        return setting
    return setting._replace(partner=lambda rng: after(before, others(rng), rng, setting, others))
