"""A sample on its way to the network, and the random numbers that decide what it looks like."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import cv2
import numpy as np

FILL = (124, 116, 104)
"""What stands in an RGB image where there is none: the mean colour of ImageNet, close to 0 once normalised."""
GREY = (115, 115, 115, 115)
"""The same in images of other channels: their mean."""
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


class Setting(NamedTuple):
    """What the steps need to know of the program: the (height, width) of the network's input, the void value, and the
    names of the classes.

    ``partner`` gives another sample, which has gone through the same steps as the one at hand; without it there is none
    to mix with.
    """

    size: tuple[int, int]
    ignore: int
    classes: tuple[str, ...] = ()
    partner: Callable[[Rng], Sample] | None = None


Step = Callable[[Any, Sample, Rng, Setting], Sample]
"""The realisation of a word: the word, the sample, its random numbers and the setting to the changed sample."""


def counter_rng(seed: int, epoch: int, index: int, draw: int = 0, stream: int = AUGMENT_STREAM) -> Rng:
    """The random numbers of one sample, a function of its arguments and nothing else (Philox, Salmon et al., 2011).

    ``draw`` tells apart several uses of one sample in an epoch. So neither workers nor order nor a resume change what
    a sample looks like.
    """
    key = np.array([seed, epoch], dtype=np.uint64)
    counter = np.array([0, stream, draw, index], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


def fit(sample: Sample, size: tuple[int, int]) -> Sample:
    """The sample stretched to (height, width) as at inference: image linear, mask nearest."""
    if sample.size == tuple(size):
        return sample
    return resized(sample, size, average=False)


def resized(sample: Sample, size: tuple[int, int], *, average: bool = True) -> Sample:
    """The sample at (height, width), by :func:`resized_image` and :func:`resized_mask`."""
    if sample.size == tuple(size):
        return sample
    return Sample(resized_image(sample.image, size, average=average), resized_mask(sample.mask, size))


def resized_image(image: np.ndarray, size: tuple[int, int], *, average: bool = True) -> np.ndarray:
    """The image at (height, width): averaged over whole blocks while it is twice as large or more, then linear.
    OpenCV's areas of any ratio take seven times as long."""
    if image.shape[:2] == tuple(size):
        return image
    shrunk = _shrunk(image, size) if average else None
    if shrunk is not None:
        return shrunk
    return by_fours(lambda part, _: cv2.resize(part, size[::-1], interpolation=cv2.INTER_LINEAR), image)


def resized_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The mask at (height, width), each pixel the nearest of the old ones, by the middles of both as the image is.

    OpenCV's plain `INTER_NEAREST` takes the one at the corner: half a pixel of the smaller mask away.
    """
    if mask.shape == tuple(size):
        return mask
    return cv2.resize(np.ascontiguousarray(mask), size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)


def _shrunk(image: np.ndarray, size: tuple[int, int]) -> np.ndarray | None:
    """The image at ``size`` by averages of blocks of pixels, as large as leave it no smaller, and lines between them;
    None where it is not twice as large. What is over at the edges of the blocks is left out, and nothing is shifted."""
    block = min(image.shape[0] // size[0], image.shape[1] // size[1])
    if block < 2:
        return None
    rows, columns = image.shape[0] // block, image.shape[1] // block
    down, right = image.shape[0] / (block * size[0]), image.shape[1] / (block * size[1])
    place = np.array([[right, 0, right / 2 - 0.5], [0, down, down / 2 - 0.5]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP

    def change(part: np.ndarray, _: tuple[int, ...]) -> np.ndarray:
        small = cv2.resize(part, (columns, rows), interpolation=cv2.INTER_AREA)
        return cv2.warpAffine(small, place, size[::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE)

    return by_fours(change, image[: rows * block, : columns * block])


def by_fours(change: Callable[[np.ndarray, tuple[int, ...]], np.ndarray], image: np.ndarray) -> np.ndarray:
    """What ``change`` makes of an image (H, W, C), given four channels at a time, as many as OpenCV takes; with them it
    is given the colour that stands where there is no image."""
    channels = image.shape[2]
    if channels == 3:
        return change(np.ascontiguousarray(image), FILL)
    parts = [change(np.ascontiguousarray(image[:, :, k : k + 4]), GREY) for k in range(0, channels, 4)]
    return np.concatenate([with_channels(part) for part in parts], axis=2)


def with_channels(image: np.ndarray) -> np.ndarray:
    """The image with the third axis that OpenCV drops where it has one channel."""
    return image if image.ndim == 3 else image[:, :, None]


def between(rng: Rng, span: Any) -> float:
    """A number drawn evenly from a range."""
    return float(rng.uniform(span.low, span.high))
