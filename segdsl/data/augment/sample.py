"""Samples during augmentation, their random numbers, and resizing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import cv2
import numpy as np

RGB_FILL = (124, 116, 104)
"""Color of padding in RGB images: the mean color of ImageNet, close to 0 after normalization."""
GRAY_FILL = (115, 115, 115, 115)
"""The same for images with other channels."""
AUGMENT_STREAM, SHUFFLE_STREAM, NOISE_STREAM = 0, 1, 2
Rng = np.random.Generator


class Sample(NamedTuple):
    """An image, uint8 (H, W, C), RGB unless the model takes other channels, and its mask, uint8 (H, W)."""

    image: np.ndarray
    mask: np.ndarray

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.image.shape[0], self.image.shape[1]


class AugmentContext(NamedTuple):
    """What the steps need to know: the (height, width) of the network input, the ignore value, and the class names.

    ``partner`` returns another sample after the same steps as the current one; None if there is none to mix with.
    """

    size: tuple[int, int]
    ignore: int
    classes: tuple[str, ...] = ()
    partner: Callable[[Rng], Sample] | None = None


Step = Callable[[Any, Sample, Rng, AugmentContext], Sample]
"""The implementation of a word: takes the word, the sample, its random numbers and the context; returns the new
sample."""


def counter_rng(seed: int, epoch: int, index: int, draw: int = 0, stream: int = AUGMENT_STREAM) -> Rng:
    """Return the random generator of one sample, which depends on the arguments only (Philox, Salmon et al., 2011).

    ``draw`` distinguishes several uses of one sample in an epoch. Neither the number of workers, nor the order of
    loading, nor resuming a run changes a sample.
    """
    key = np.array([seed, epoch], dtype=np.uint64)
    counter = np.array([0, stream, draw, index], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


def fit_sample(sample: Sample, size: tuple[int, int]) -> Sample:
    """Resize the sample to (height, width) as at inference: the image linearly, the mask by nearest neighbor."""
    if sample.size == tuple(size):
        return sample
    return resize_sample(sample, size, average=False)


def resize_sample(sample: Sample, size: tuple[int, int], *, average: bool = True) -> Sample:
    """Resize the sample to (height, width) with :func:`resize_image` and :func:`resize_mask`."""
    if sample.size == tuple(size):
        return sample
    return Sample(resize_image(sample.image, size, average=average), resize_mask(sample.mask, size))


def resize_image(image: np.ndarray, size: tuple[int, int], *, average: bool = True) -> np.ndarray:
    """Resize the image to (height, width): average whole blocks if it is at least twice as large, then interpolate
    linearly."""
    if image.shape[:2] == tuple(size):
        return image
    # OpenCV's INTER_AREA at arbitrary ratios takes seven times as long; at integer ratios it is fast.
    reduced = _shrink_by_blocks(image, size) if average else None
    if reduced is not None:
        return reduced
    return apply_by_channels(lambda part, _: cv2.resize(part, size[::-1], interpolation=cv2.INTER_LINEAR), image)


def resize_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize the mask to (height, width) by nearest neighbor, with the same pixel centers as :func:`resize_image`."""
    if mask.shape == tuple(size):
        return mask
    # OpenCV's plain INTER_NEAREST samples at pixel corners: half a pixel of the smaller mask away.
    return cv2.resize(np.ascontiguousarray(mask), size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)


def _shrink_by_blocks(image: np.ndarray, size: tuple[int, int]) -> np.ndarray | None:
    """Average blocks of pixels and interpolate between them; None if the image is not at least twice as large.

    Blocks are as large as possible without making the image smaller than ``size``. Pixels beyond the last whole block
    are left out, and the image is not shifted.
    """
    block = min(image.shape[0] // size[0], image.shape[1] // size[1])
    if block < 2:
        return None
    rows, columns = image.shape[0] // block, image.shape[1] // block
    down, right = image.shape[0] / (block * size[0]), image.shape[1] / (block * size[1])
    place = np.array([[right, 0, right / 2 - 0.5], [0, down, down / 2 - 0.5]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP

    def shrink_part(part: np.ndarray, _: tuple[int, ...]) -> np.ndarray:
        small = cv2.resize(part, (columns, rows), interpolation=cv2.INTER_AREA)
        return cv2.warpAffine(small, place, size[::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE)

    return apply_by_channels(shrink_part, image[: rows * block, : columns * block])


def apply_by_channels(change: Callable[[np.ndarray, tuple[int, ...]], np.ndarray], image: np.ndarray) -> np.ndarray:
    """Apply ``change`` to an image (H, W, C), four channels at a time, which is OpenCV's limit.

    ``change`` gets the channels and the color of padding.
    """
    channels = image.shape[2]
    if channels == 3:
        return change(np.ascontiguousarray(image), RGB_FILL)
    parts = [change(np.ascontiguousarray(image[:, :, k : k + 4]), GRAY_FILL) for k in range(0, channels, 4)]
    return np.concatenate([restore_channel_axis(part) for part in parts], axis=2)


def restore_channel_axis(image: np.ndarray) -> np.ndarray:
    """Restore the channel axis that OpenCV drops if there is a single channel."""
    return image if image.ndim == 3 else image[:, :, None]


def draw_uniform(rng: Rng, value_range: Any) -> float:
    """Draw a number uniformly from a range."""
    return float(rng.uniform(value_range.low, value_range.high))
