"""From a picture to what a network takes, and from what it says back to the size of the picture.

The same everywhere, and as openvino-model-api does it: stretched bilinearly, normalised; class ids nearest.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from segdsl.data.augment.sample import by_fours
from segdsl.data.decode.images import statistics
from segdsl.ir.values import Size

Image = npt.NDArray[np.uint8]
"""(H, W, C): RGB unless the model takes other channels."""
Mask = npt.NDArray[np.uint8]
"""Class ids, (H, W)."""
Maps = npt.NDArray[np.float32]
"""One map for each class, (C, h, w)."""


def prepare(image: Image, size: Size, normalize: str) -> npt.NDArray[np.float32]:
    """The image stretched to ``size`` and normalised, (1, C, h, w)."""
    mean, deviation = (np.array(values, np.float32) for values in statistics(normalize, image.shape[2]))
    return _planes((stretch(image, size).astype(np.float32) - mean) / deviation)


def raw(image: Image, size: Size) -> npt.NDArray[np.float32]:
    """The image stretched to ``size``, from 0 to 255, (1, C, h, w): for models that normalise by themselves."""
    return _planes(stretch(image, size).astype(np.float32))


def _planes(image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.ascontiguousarray(image.transpose(2, 0, 1)[None])


def stretch(image: Image, size: Size) -> Image:
    """The image at ``size``, bilinear, without regard to its aspect."""
    if image.shape[:2] == (size.height, size.width):
        return image
    return by_fours(lambda part, _: cv2.resize(part, (size.width, size.height), interpolation=cv2.INTER_LINEAR), image)


def restore(mask: Mask, height: int, width: int) -> Mask:
    """Class ids at the size of the picture, each taken from the nearest pixel, by the corners of both.

    openvino-model-api does so, and whoever serves an exported model with it is to get the same pixels; by the middles,
    as masks are brought to the size of the input, others would come out wherever the factor is no whole number.
    """
    if mask.shape == (height, width):
        return mask
    return cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST).astype(np.uint8)
