"""Augmentation in uint8, on image and mask together; every random number comes from a counter.

The words are in ``segdsl/words/augmentations.py``. Measured: crop to 512, photometric and flip at 695 images/s a core.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import cv2
import numpy as np

from segdsl.ir.program import Augmentation
from segdsl.words import augmentations as words

FILL = (124, 116, 104)
"""What stands in an RGB image where there is none: the mean colour of ImageNet, close to 0 once normalised."""
GREY = (115, 115, 115, 115)
"""The same in images of other channels: their mean."""
TRIES = 10
"""Windows that RandomResizedCrop tries before it falls back to the central one."""

AUGMENT_STREAM, SHUFFLE_STREAM = 0, 1


class Sample(NamedTuple):
    """An image, uint8 (H, W, C), RGB unless the model takes other channels, and its mask, uint8 (H, W)."""

    image: np.ndarray
    mask: np.ndarray

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.image.shape[0], self.image.shape[1]


class Setting(NamedTuple):
    """What the steps need to know of the program: the (height, width) of the network's input, and the void value."""

    size: tuple[int, int]
    ignore: int


Rng = np.random.Generator
Step = Callable[[Any, Sample, Rng, Setting], Sample]


def counter_rng(seed: int, epoch: int, index: int, draw: int = 0, stream: int = AUGMENT_STREAM) -> np.random.Generator:
    """The random numbers of one sample, a function of its arguments and nothing else (Philox, Salmon et al., 2011).

    ``draw`` tells apart several uses of one sample in an epoch. So neither workers nor order nor a resume change what
    a sample looks like.
    """
    key = np.array([seed, epoch], dtype=np.uint64)
    counter = np.array([0, stream, draw, index], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


def augment(steps: Iterable[Augmentation], sample: Sample, rng: Rng, setting: Setting) -> Sample:
    """Applies the steps in order; the result is stretched to the input size if no step has brought it there.

    The arrays given may be returned as they are, never changed in place.
    """
    for word in steps:
        sample = STEPS[type(word)](word, sample, rng, setting)
    return fit(sample, setting.size)


def fit(sample: Sample, size: tuple[int, int]) -> Sample:
    """The sample stretched to (height, width) as at inference: image linear, mask nearest."""
    if sample.size == tuple(size):
        return sample
    return _resized(sample, size, cv2.INTER_LINEAR)


def _resized(sample: Sample, size: tuple[int, int], interpolation: int | None = None) -> Sample:
    height, width = size
    if sample.size == (height, width):
        return sample
    if interpolation is None:
        shrinks = sample.size[0] >= height and sample.size[1] >= width
        interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    image = by_fours(lambda part, _: cv2.resize(part, (width, height), interpolation=interpolation), sample.image)
    mask = cv2.resize(np.ascontiguousarray(sample.mask), (width, height), interpolation=cv2.INTER_NEAREST)
    return Sample(image, mask)


def by_fours(change: Callable[[np.ndarray, tuple[int, ...]], np.ndarray], image: np.ndarray) -> np.ndarray:
    """What ``change`` makes of an image (H, W, C), given four channels at a time, as many as OpenCV takes; with them it
    is given the colour that stands where there is no image."""
    channels = image.shape[2]
    if channels == 3:
        return change(np.ascontiguousarray(image), FILL)
    parts = [change(np.ascontiguousarray(image[:, :, k : k + 4]), GREY) for k in range(0, channels, 4)]
    return np.concatenate([_kept(part) for part in parts], axis=2)


def _kept(image: np.ndarray) -> np.ndarray:
    """The image with the third axis that OpenCV drops where it has one channel."""
    return image if image.ndim == 3 else image[:, :, None]


def _window(sample: Sample, top: int, left: int, height: int, width: int) -> Sample:
    place = (slice(top, top + height), slice(left, left + width))
    return Sample(sample.image[place], sample.mask[place])


def _random_resized_crop(word: words.RandomResizedCrop, sample: Sample, rng: Rng, setting: Setting) -> Sample:
    height, width = sample.size
    low, high = math.log(word.ratio.low), math.log(word.ratio.high)
    for _ in range(TRIES):
        area = height * width * rng.uniform(word.scale.low, word.scale.high)
        ratio = math.exp(rng.uniform(low, high))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            top, left = int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1))
            return _resized(_window(sample, top, left, h, w), setting.size)
    ratio = min(max(width / height, word.ratio.low), word.ratio.high)
    h, w = min(height, round(width / ratio)), min(width, round(height * ratio))
    return _resized(_window(sample, (height - h) // 2, (width - w) // 2, max(h, 1), max(w, 1)), setting.size)


def _random_crop(word: words.RandomCrop, sample: Sample, rng: Rng, setting: Setting) -> Sample:
    h, w = (word.size.height, word.size.width) if word.size else setting.size
    below, right = max(0, h - sample.size[0]), max(0, w - sample.size[1])
    if below or right:
        image = by_fours(
            lambda part, fill: cv2.copyMakeBorder(part, 0, below, 0, right, cv2.BORDER_CONSTANT, value=fill),
            sample.image,
        )
        mask = cv2.copyMakeBorder(sample.mask, 0, below, 0, right, cv2.BORDER_CONSTANT, value=(setting.ignore,))
        sample = Sample(image, mask)
    top, left = int(rng.integers(0, sample.size[0] - h + 1)), int(rng.integers(0, sample.size[1] - w + 1))
    return _window(sample, top, left, h, w)


def _resize(word: words.Resize, sample: Sample, rng: Rng, setting: Setting) -> Sample:
    height, width = (word.size.height, word.size.width) if word.size else setting.size
    factor = rng.uniform(word.scale.low, word.scale.high)
    return _resized(sample, (max(1, round(height * factor)), max(1, round(width * factor))))


def _photometric(word: words.PhotometricDistortion, sample: Sample, rng: Rng, setting: Setting) -> Sample:
    # Eight numbers are drawn whatever is applied, so that one part's probability does not change another's value.
    chance, draw = rng.random(4), rng.random(4)
    apply = chance < word.p
    levels = np.arange(256, dtype=np.float64)
    image = sample.image
    if apply[0] or apply[1]:
        table = levels
        if apply[0]:
            table = (table + (2 * draw[0] - 1) * word.brightness).clip(0, 255)
        if apply[1]:
            table = table * (word.contrast.low + draw[1] * (word.contrast.high - word.contrast.low))
        image = (
            _bytes(table)[image] if image.shape[2] > 4 else _kept(cv2.LUT(np.ascontiguousarray(image), _bytes(table)))
        )
    if image.shape[2] == 3 and (apply[2] or apply[3]):
        # OpenCV's integer HSV: hue in steps of 2 degrees, 0 to 179.
        tables = np.stack([levels, levels, levels], axis=1)
        if apply[2]:
            tables[:, 1] = levels * (word.saturation.low + draw[2] * (word.saturation.high - word.saturation.low))
        if apply[3]:
            tables[:, 0] = (levels + round((2 * draw[3] - 1) * word.hue.value / 2)) % 180
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
        image = cv2.cvtColor(cv2.LUT(hsv, _bytes(tables)[None]), cv2.COLOR_HSV2RGB)
    return Sample(image, sample.mask)


def _bytes(table: np.ndarray) -> np.ndarray:
    return np.rint(table).clip(0, 255).astype(np.uint8)


def _flip(axis: int) -> Step:
    def step(word: Any, sample: Sample, rng: Rng, setting: Setting) -> Sample:
        if rng.random() >= word.p:
            return sample
        image = by_fours(lambda part, _: cv2.flip(part, axis), sample.image)
        return Sample(image, cv2.flip(sample.mask, axis))

    return step


def _rotate(word: words.Rotate, sample: Sample, rng: Rng, setting: Setting) -> Sample:
    chance, angle = rng.random(), rng.uniform(word.range.low, word.range.high)
    if chance >= word.p:
        return sample
    height, width = sample.size
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, 1.0)
    turned = by_fours(
        lambda part, fill: cv2.warpAffine(part, matrix, (width, height), flags=cv2.INTER_LINEAR, borderValue=fill),
        sample.image,
    )
    mask, void = np.ascontiguousarray(sample.mask), (setting.ignore,)
    return Sample(turned, cv2.warpAffine(mask, matrix, (width, height), flags=cv2.INTER_NEAREST, borderValue=void))


STEPS: dict[type[Augmentation], Step] = {
    words.RandomResizedCrop: _random_resized_crop,
    words.RandomCrop: _random_crop,
    words.Resize: _resize,
    words.PhotometricDistortion: _photometric,
    words.HorizontalFlip: _flip(1),
    words.VerticalFlip: _flip(0),
    words.Rotate: _rotate,
}
"""The realisation of every augmentation."""
