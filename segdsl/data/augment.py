"""Augmentation in uint8, on image and mask together; every random number comes from a counter.

The words are in ``segdsl/words/augmentations.py``, what they do in ``geometry``, ``photometry`` and ``mixing``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from segdsl.data import geometry, mixing, photometry
from segdsl.data.pending import Pending
from segdsl.data.sample import Rng, Sample, Setting, Step, fit
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
    first = 0
    if isinstance(sample, Pending):
        word = steps[0] if steps else None
        first = int(isinstance(word, RandomResizedCrop))
        sample = sample.cut(word, rng, setting) if isinstance(word, RandomResizedCrop) else sample.whole()
    for number, word in enumerate(steps[first:], first):
        sample = STEPS[type(word)](word, sample, rng, _with_partner(steps[:number], setting, others))
    return sample


def _with_partner(before: Sequence[Augmentation], setting: Setting, others: Others | None) -> Setting:
    if others is None:
        return setting
    return setting._replace(partner=lambda rng: after(before, others(rng), rng, setting, others))
