"""Steps that move pixels of image and mask together.

Areas that become empty get the mean color in the image and the ignore value in the mask.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np

from segdsl.data.augment.sample import AugmentContext, Rng, Sample, Step, apply_by_channels, draw_uniform, resize_sample
from segdsl.words import augmentations as words

MAX_TRIES = 10
"""Number of windows to try before one is used as it is."""


def crop_window(sample: Sample, top: int, left: int, height: int, width: int) -> Sample:
    """Return a part of the sample, without copying it."""
    place = (slice(top, top + height), slice(left, left + width))
    return Sample(sample.image[place], sample.mask[place])


def pad_sample(sample: Sample, top: int, left: int, bottom: int, right: int, ignore: int) -> Sample:
    """Pad the sample by these numbers of pixels: with the mean color and the ignore value."""
    if not (top or left or bottom or right):
        return sample
    edges = (top, bottom, left, right, cv2.BORDER_CONSTANT)
    image = apply_by_channels(lambda part, fill: cv2.copyMakeBorder(part, *edges, value=fill), sample.image)
    return Sample(image, cv2.copyMakeBorder(np.ascontiguousarray(sample.mask), *edges, value=(ignore,)))


def apply_random_resized_crop(
    word: words.RandomResizedCrop, sample: Sample, rng: Rng, context: AugmentContext
) -> Sample:
    """Apply `RandomResizedCrop`."""
    return resize_sample(crop_window(sample, *draw_window(word, sample.size, rng)), context.size)


def draw_window(word: words.RandomResizedCrop, size: tuple[int, int], rng: Rng) -> tuple[int, int, int, int]:
    """Draw top, left, height and width of a window in an image of (height, width) ``size``."""
    height, width = size
    low, high = math.log(word.ratio.low), math.log(word.ratio.high)
    for _ in range(MAX_TRIES):
        area = height * width * draw_uniform(rng, word.scale)
        ratio = math.exp(rng.uniform(low, high))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1)), h, w
    # No window fits, because the image is very long: the largest central window with an allowed aspect ratio.
    ratio = min(max(width / height, word.ratio.low), word.ratio.high)
    h, w = max(min(height, round(width / ratio)), 1), max(min(width, round(height * ratio)), 1)
    return (height - h) // 2, (width - w) // 2, h, w


def apply_random_crop(word: words.RandomCrop, sample: Sample, rng: Rng, context: AugmentContext) -> Sample:
    """Apply `RandomCrop`."""
    h, w = (word.size.height, word.size.width) if word.size else context.size
    sample = pad_sample(sample, 0, 0, max(0, h - sample.size[0]), max(0, w - sample.size[1]), context.ignore)
    for _ in range(MAX_TRIES):
        top, left = int(rng.integers(0, sample.size[0] - h + 1)), int(rng.integers(0, sample.size[1] - w + 1))
        cut = crop_window(sample, top, left, h, w)
        # The check takes as long as the crop itself, so it is skipped if nothing is excluded.
        if word.most >= 1 or _compute_largest_share(cut.mask, context.ignore) <= word.most:
            return cut
    return cut


def _compute_largest_share(mask: np.ndarray, ignore: int) -> float:
    """Return the share of the most frequent class among the pixels that are not ignored; 1 if all are ignored."""
    counts = np.bincount(mask.ravel(), minlength=256)
    counts[ignore] = 0
    return counts.max() / counts.sum() if counts.any() else 1.0


def apply_resize(word: words.Resize, sample: Sample, rng: Rng, context: AugmentContext) -> Sample:
    """Apply `Resize`."""
    height, width = (word.size.height, word.size.width) if word.size else context.size
    factor = draw_uniform(rng, word.scale)
    height, width = max(1, round(height * factor)), max(1, round(width * factor))
    if word.fit == "stretch":
        return resize_sample(sample, (height, width))
    ratio = min(height / sample.size[0], width / sample.size[1])
    inner = max(1, round(sample.size[0] * ratio)), max(1, round(sample.size[1] * ratio))
    below, right = height - inner[0], width - inner[1]
    small = resize_sample(sample, inner)
    return pad_sample(small, below // 2, right // 2, below - below // 2, right - right // 2, context.ignore)


def make_flip(axis: int) -> Step:
    """Return the implementation of `HorizontalFlip` (axis 1) or `VerticalFlip` (axis 0)."""

    def apply_flip(word: Any, sample: Sample, rng: Rng, setting: AugmentContext) -> Sample:
        if rng.random() >= word.p:
            return sample
        image = apply_by_channels(lambda part, _: cv2.flip(part, axis), sample.image)
        return Sample(image, cv2.flip(np.ascontiguousarray(sample.mask), axis))

    return apply_flip


def apply_rotate(word: words.Rotate, sample: Sample, rng: Rng, context: AugmentContext) -> Sample:
    """Apply `Rotate`."""
    # Drawn before the decision, so that the probability does not shift the random numbers of the following steps.
    chance, angle = rng.random(), draw_uniform(rng, word.range)
    if chance >= word.p:
        return sample
    height, width = sample.size
    return _warp_sample(
        sample, cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, 1.0), context.ignore
    )


def apply_affine(word: words.Affine, sample: Sample, rng: Rng, context: AugmentContext) -> Sample:
    """Apply `Affine`: rotate and scale around the center, shear, then translate."""
    chance, angle, zoom = rng.random(), draw_uniform(rng, word.rotate), draw_uniform(rng, word.scale)
    right, down = draw_uniform(rng, word.translate), draw_uniform(rng, word.translate)
    shear = math.tan(math.radians(draw_uniform(rng, word.shear)))
    if chance >= word.p:
        return sample
    height, width = sample.size
    # Pixel centers have integer coordinates, so the center of the image is at (width - 1) / 2.
    center = np.array([[1, 0, (width - 1) / 2], [0, 1, (height - 1) / 2], [0, 0, 1]])
    cosine, sine = zoom * math.cos(math.radians(angle)), zoom * math.sin(math.radians(angle))
    turn = np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]])
    lean = np.array([[1, shear, right * width], [0, 1, down * height], [0, 0, 1]])
    return _warp_sample(sample, (center @ lean @ turn @ np.linalg.inv(center))[:2], context.ignore)


def _warp_sample(sample: Sample, matrix: np.ndarray, ignore: int) -> Sample:
    height, width = sample.size
    image = apply_by_channels(
        lambda part, fill: cv2.warpAffine(part, matrix, (width, height), flags=cv2.INTER_LINEAR, borderValue=fill),
        sample.image,
    )
    mask = np.ascontiguousarray(sample.mask)
    # Interpolated class ids would be ids of other classes.
    flags, void = cv2.INTER_NEAREST, (ignore,)
    return Sample(image, cv2.warpAffine(mask, matrix, (width, height), flags=flags, borderValue=void))


STEPS: dict[type, Step] = {
    words.RandomResizedCrop: apply_random_resized_crop,
    words.RandomCrop: apply_random_crop,
    words.Resize: apply_resize,
    words.HorizontalFlip: make_flip(1),
    words.VerticalFlip: make_flip(0),
    words.Rotate: apply_rotate,
    words.Affine: apply_affine,
}
"""The implementations of these words."""
