"""Steps that change colors and not the mask; lookup tables of 256 entries wherever a pixel's new value depends on
itself only."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import cv2
import numpy as np

from segdsl.data.augment.sample import (
    AugmentContext,
    Rng,
    Sample,
    Step,
    apply_by_channels,
    draw_uniform,
    restore_channel_axis,
)
from segdsl.words import augmentations as words

LEVELS = np.arange(256, dtype=np.float64)
Image = np.ndarray


def apply_lookup(image: Image, table: np.ndarray) -> Image:
    """Replace each value by its entry in ``table``, of shape (256,), or (256, C) with one column per channel."""
    packed = np.rint(table).clip(0, 255).astype(np.uint8)
    # OpenCV's LUT takes four channels at most.
    if image.shape[2] > 4:
        return packed[image] if packed.ndim == 1 else packed[image, np.arange(image.shape[2])]
    packed = packed if packed.ndim == 1 else packed[None]
    return restore_channel_axis(cv2.LUT(np.ascontiguousarray(image), packed))


def apply_photometric_distortion(
    word: words.PhotometricDistortion, sample: Sample, rng: Rng, context: AugmentContext
) -> Sample:
    """Apply `PhotometricDistortion`."""
    # Always draw eight numbers, so that the probability of one part does not change the value of another.
    chance, draw = rng.random(4), rng.random(4)
    apply = chance < word.p
    image = sample.image
    if apply[0]:
        image = _add_brightness(image, round((2 * draw[0] - 1) * word.brightness))
    if apply[1]:
        factor = word.contrast.low + draw[1] * (word.contrast.high - word.contrast.low)
        image = restore_channel_axis(cv2.convertScaleAbs(np.ascontiguousarray(image), alpha=factor))
    if image.shape[2] == 3 and (apply[2] or apply[3]):
        # OpenCV's uint8 HSV stores the hue in steps of 2 degrees, 0 to 179.
        hsv = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2HSV)
        if apply[2]:
            factor = word.saturation.low + draw[2] * (word.saturation.high - word.saturation.low)
            _apply_channel_lookup(hsv, 1, LEVELS * factor)
        if apply[3]:
            _apply_channel_lookup(hsv, 0, (LEVELS + round((2 * draw[3] - 1) * word.hue.value / 2)) % 180)
        image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    return Sample(image, sample.mask)


def _add_brightness(image: Image, offset: int) -> Image:
    """Add ``offset`` to every value, in a sixth of the time of a lookup table."""
    flat = np.ascontiguousarray(image).reshape(len(image), -1)
    # OpenCV takes a scalar as a tuple, which its type stubs do not declare.
    amount: Any = (abs(offset),)
    changed = cv2.add(flat, amount) if offset >= 0 else cv2.subtract(flat, amount)
    return changed.reshape(image.shape)


def _apply_channel_lookup(image: Image, channel: int, table: np.ndarray) -> None:
    """Replace the values of one channel in place by ``table``, in half the time of a lookup of three channels."""
    values = cv2.extractChannel(image, channel)
    cv2.insertChannel(apply_lookup(values[:, :, None], table), image, channel)


def apply_grayscale(word: words.Grayscale, sample: Sample, rng: Rng, context: AugmentContext) -> Sample:
    """Apply `Grayscale`."""
    if rng.random() >= word.p or sample.image.shape[2] != 3:
        return sample
    gray = cv2.cvtColor(np.ascontiguousarray(sample.image), cv2.COLOR_RGB2GRAY)
    return Sample(cv2.cvtColor(gray, cv2.COLOR_GRAY2RGB), sample.mask)


def apply_gaussian_blur(word: words.GaussianBlur, sample: Sample, rng: Rng, context: AugmentContext) -> Sample:
    """Apply `GaussianBlur`."""
    chance, sigma = rng.random(), draw_uniform(rng, word.sigma)
    if chance >= word.p or sigma <= 0:
        return sample
    # Three standard deviations to each side contain 99.7 % of the kernel.
    side = 2 * max(1, round(3 * sigma)) + 1
    blurred = apply_by_channels(lambda part, _: cv2.GaussianBlur(part, (side, side), sigma), sample.image)
    return Sample(blurred, sample.mask)


@lru_cache(maxsize=1)
def _make_normal_levels() -> np.ndarray:
    """Return 256 equally likely values of the normal distribution, scaled to a standard deviation of 1."""
    from statistics import NormalDist

    values = np.array([NormalDist().inv_cdf((k + 0.5) / 256) for k in range(256)])
    return values / values.std()


def apply_gaussian_noise(word: words.GaussianNoise, sample: Sample, rng: Rng, context: AugmentContext) -> Sample:
    """Apply `GaussianNoise`: one random byte per value, looked up in the normal distribution."""
    chance, deviation = rng.random(), draw_uniform(rng, word.std)
    if chance >= word.p:
        return sample
    image = np.ascontiguousarray(sample.image)
    # Ten times as fast as drawing normal numbers; 256 levels of noise are enough for 8-bit images.
    indices = np.frombuffer(rng.bytes(image.size), np.uint8).reshape(image.shape)
    noise = np.rint(_make_normal_levels() * deviation).astype(np.int16)[indices]
    return Sample((image + noise).clip(0, 255).astype(np.uint8), sample.mask)


def apply_aug_mix(word: words.AugMix, sample: Sample, rng: Rng, context: AugmentContext) -> Sample:
    """Apply `AugMix`: mix chains of distortions with each other and with the image."""
    if rng.random() >= word.p:
        return sample
    image = np.ascontiguousarray(sample.image)
    weights = rng.dirichlet(np.full(word.chains, word.alpha))
    share = float(rng.beta(word.alpha, word.alpha))
    mixed = image.astype(np.float32) * (1 - share)
    for weight in weights:
        chain = image
        for _ in range(int(rng.integers(1, word.depth + 1))):
            change = DISTORTIONS[int(rng.integers(len(DISTORTIONS)))]
            chain = change(chain, rng.uniform(0, word.severity), 1 if rng.random() < 0.5 else -1)
        mixed += chain * np.float32(share * weight)
    return Sample(np.rint(mixed).clip(0, 255).astype(np.uint8), sample.mask)


def _change_brightness(image: Image, strength: float, sign: int) -> Image:
    return apply_lookup(image, LEVELS + sign * strength * 80)


def _change_contrast(image: Image, strength: float, sign: int) -> Image:
    return apply_lookup(image, 127.5 + (LEVELS - 127.5) * (1 + sign * 0.8 * strength))


def _posterize(image: Image, strength: float, sign: int) -> Image:
    bits = 8 - round(4 * strength)
    return apply_lookup(image, LEVELS // 2 ** (8 - bits) * 2 ** (8 - bits))


def _solarize(image: Image, strength: float, sign: int) -> Image:
    return apply_lookup(image, np.where(256 - 128 * strength > LEVELS, LEVELS, 255 - LEVELS))


def _change_saturation(image: Image, strength: float, sign: int) -> Image:
    if image.shape[2] != 3:
        return image
    gray = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return cv2.addWeighted(image, 1 + sign * 0.9 * strength, gray, -sign * 0.9 * strength, 0)


def _stretch_contrast(image: Image, strength: float, sign: int) -> Image:
    """Stretch the contrast: the darkest and brightest value of each channel become 0 and 255."""
    low, high = image.min(axis=(0, 1)).astype(float), image.max(axis=(0, 1)).astype(float)
    factor = np.where(high > low, 255 / np.maximum(high - low, 1), 1.0)
    return apply_lookup(image, (LEVELS[:, None] - np.where(high > low, low, 0)) * factor)


def _equalize_histogram(image: Image, strength: float, sign: int) -> Image:
    channels = [cv2.equalizeHist(np.ascontiguousarray(image[:, :, k])) for k in range(image.shape[2])]
    return np.stack(channels, axis=2)


def _change_sharpness(image: Image, strength: float, sign: int) -> Image:
    def sharpen(part: Image, _: tuple[int, ...]) -> Image:
        soft = cv2.GaussianBlur(part, (3, 3), 0)
        return cv2.addWeighted(part, 1 + sign * strength, soft, -sign * strength, 0)

    return apply_by_channels(sharpen, image)


# No distortion moves pixels, because the mask of a mixture would be undefined otherwise.
DISTORTIONS: tuple[Callable[[Image, float, int], Image], ...] = (
    _change_brightness,
    _change_contrast,
    _posterize,
    _solarize,
    _change_saturation,
    _stretch_contrast,
    _equalize_histogram,
    _change_sharpness,
)
"""The distortions that AugMix draws from; each takes an image, a strength from 0 to 1, and a sign."""
STEPS: dict[type, Step] = {
    words.PhotometricDistortion: apply_photometric_distortion,
    words.AugMix: apply_aug_mix,
    words.GaussianBlur: apply_gaussian_blur,
    words.GaussianNoise: apply_gaussian_noise,
    words.Grayscale: apply_grayscale,
}
"""The implementations of these words."""
