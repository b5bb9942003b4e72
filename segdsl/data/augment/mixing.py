"""Steps that combine several samples. The mask of a mixed sample always matches its image, pixel by pixel."""

from __future__ import annotations

import math

import numpy as np

from segdsl.data.augment.geometry import window
from segdsl.data.augment.sample import Rng, Sample, Setting, Step, between, resized
from segdsl.words import augmentations as words


def _partner(sample: Sample, rng: Rng, setting: Setting) -> Sample:
    """Return another sample at the same size, or the sample itself if there is no other."""
    return sample if setting.partner is None else resized(setting.partner(rng), sample.size)


def cut_mix(word: words.CutMix, sample: Sample, rng: Rng, setting: Setting) -> Sample:
    """Apply `CutMix`."""
    if rng.random() >= word.p:
        return sample
    height, width = sample.size
    area, ratio = between(rng, word.area), math.exp(rng.uniform(math.log(word.ratio.low), math.log(word.ratio.high)))
    # Height first, then the width that gives the drawn area, so that clipping the height keeps the area.
    h = min(max(1, round(math.sqrt(area * height * width / ratio))), height)
    w = min(max(1, round(area * height * width / h)), width)
    top, left = int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1))
    other = window(_partner(sample, rng, setting), top, left, h, w)
    image, mask = sample.image.copy(), sample.mask.copy()
    image[top : top + h, left : left + w], mask[top : top + h, left : left + w] = other
    return Sample(image, mask)


def mosaic(word: words.Mosaic, sample: Sample, rng: Rng, setting: Setting) -> Sample:
    """Apply `Mosaic`."""
    if rng.random() >= word.p:
        return sample
    height, width = sample.size
    middle, center = round(height * between(rng, word.center)), round(width * between(rng, word.center))
    image, mask = np.empty_like(sample.image), np.empty_like(sample.mask)
    rows, columns = (slice(0, middle), slice(middle, height)), (slice(0, center), slice(center, width))
    for number, place in enumerate((r, c) for r in rows for c in columns):
        h, w = (part.stop - part.start for part in place)
        tile = sample if number == 0 else _partner(sample, rng, setting)
        top, left = int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1))
        image[place], mask[place] = window(tile, top, left, h, w)
    return Sample(image, mask)


def class_mix(word: words.ClassMix, sample: Sample, rng: Rng, setting: Setting) -> Sample:
    """Apply `ClassMix`."""
    if rng.random() >= word.p:
        return sample
    other = _partner(sample, rng, setting)
    present = [k for k in np.unique(other.mask).tolist() if k != setting.ignore]
    if word.classes is None:
        # Half of the classes, rounded up: an image with a single class contributes it.
        chosen = rng.permutation(present)[: -(-len(present) // 2)].tolist()
    else:
        chosen = [k for k in present if k < len(setting.classes) and setting.classes[k] in word.classes]
    inside = np.isin(other.mask, chosen)
    image = np.where(inside[:, :, None], other.image, sample.image)
    return Sample(image, np.where(inside, other.mask, sample.mask))


STEPS: dict[type, Step] = {words.CutMix: cut_mix, words.Mosaic: mosaic, words.ClassMix: class_mix}
"""The implementations of these words."""
