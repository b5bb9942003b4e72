"""Steps that combine several samples. The mask of a mixed sample always matches its image, pixel by pixel."""

from __future__ import annotations

import math

import numpy as np

from segdsl.data.augment.geometry import crop_window
from segdsl.data.augment.sample import AugmentContext, Rng, Sample, Step, draw_uniform, resize_sample
from segdsl.words import augmentations as words


def _draw_partner(sample: Sample, rng: Rng, context: AugmentContext) -> Sample:
    """Return another sample at the same size, or the sample itself if there is no other."""
    return sample if context.partner is None else resize_sample(context.partner(rng), sample.size)


def apply_cut_mix(word: words.CutMix, sample: Sample, rng: Rng, context: AugmentContext) -> Sample:
    """Apply `CutMix`."""
    if rng.random() >= word.p:
        return sample
    height, width = sample.size
    area, ratio = (
        draw_uniform(rng, word.area),
        math.exp(rng.uniform(math.log(word.ratio.low), math.log(word.ratio.high))),
    )
    # Height first, then the width that gives the drawn area, so that clipping the height keeps the area.
    h = min(max(1, round(math.sqrt(area * height * width / ratio))), height)
    w = min(max(1, round(area * height * width / h)), width)
    top, left = int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1))
    other = crop_window(_draw_partner(sample, rng, context), top, left, h, w)
    image, mask = sample.image.copy(), sample.mask.copy()
    image[top : top + h, left : left + w], mask[top : top + h, left : left + w] = other
    return Sample(image, mask)


def apply_mosaic(word: words.Mosaic, sample: Sample, rng: Rng, context: AugmentContext) -> Sample:
    """Apply `Mosaic`."""
    if rng.random() >= word.p:
        return sample
    height, width = sample.size
    middle, center = round(height * draw_uniform(rng, word.center)), round(width * draw_uniform(rng, word.center))
    image, mask = np.empty_like(sample.image), np.empty_like(sample.mask)
    rows, columns = (slice(0, middle), slice(middle, height)), (slice(0, center), slice(center, width))
    for number, place in enumerate((r, c) for r in rows for c in columns):
        h, w = (part.stop - part.start for part in place)
        tile = sample if number == 0 else _draw_partner(sample, rng, context)
        top, left = int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1))
        image[place], mask[place] = crop_window(tile, top, left, h, w)
    return Sample(image, mask)


def apply_class_mix(word: words.ClassMix, sample: Sample, rng: Rng, context: AugmentContext) -> Sample:
    """Apply `ClassMix`."""
    if rng.random() >= word.p:
        return sample
    other = _draw_partner(sample, rng, context)
    present = [k for k in np.unique(other.mask).tolist() if k != context.ignore]
    if word.classes is None:
        # Half of the classes, rounded up: an image with a single class contributes it.
        chosen = rng.permutation(present)[: -(-len(present) // 2)].tolist()
    else:
        chosen = [k for k in present if k < len(context.classes) and context.classes[k] in word.classes]
    inside = np.isin(other.mask, chosen)
    image = np.where(inside[:, :, None], other.image, sample.image)
    return Sample(image, np.where(inside, other.mask, sample.mask))


STEPS: dict[type, Step] = {words.CutMix: apply_cut_mix, words.Mosaic: apply_mosaic, words.ClassMix: apply_class_mix}
"""The implementations of these words."""
