"""Preprocessing of images for a network, and resizing of its predictions to the size of the image.

Equal for all kinds of models and equal to openvino-model-api: images are stretched bilinearly and normalized, class ids
are resized by nearest neighbor.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from segdsl.data.augment.sample import apply_by_channels
from segdsl.data.decode.images import get_normalization
from segdsl.ir.values import Size

Image = npt.NDArray[np.uint8]
"""(H, W, C): RGB unless the model uses other channels."""
Mask = npt.NDArray[np.uint8]
"""Class ids, (H, W)."""
ClassMaps = npt.NDArray[np.float32]
"""One map for each class, (C, h, w)."""


def preprocess_image(image: Image, size: Size, normalize: str) -> npt.NDArray[np.float32]:
    """Stretch an image (H, W, C) to ``size`` and normalize it; return (1, C, h, w)."""
    mean, deviation = (np.array(values, np.float32) for values in get_normalization(normalize, image.shape[2]))
    return _to_nchw((stretch_image(image, size).astype(np.float32) - mean) / deviation)


def preprocess_raw(image: Image, size: Size) -> npt.NDArray[np.float32]:
    """Stretch an image (H, W, C) to ``size``; return (1, C, h, w) from 0 to 255, for models that normalize it."""
    return _to_nchw(stretch_image(image, size).astype(np.float32))


def _to_nchw(image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.ascontiguousarray(image.transpose(2, 0, 1)[None])


def stretch_image(image: Image, size: Size) -> Image:
    """Resize an image (H, W, C) to ``size`` bilinearly, without preserving its aspect ratio."""
    if image.shape[:2] == (size.height, size.width):
        return image
    # OpenCV resizes at most four channels at once.
    return apply_by_channels(
        lambda part, _: cv2.resize(part, (size.width, size.height), interpolation=cv2.INTER_LINEAR), image
    )


def restore_mask_size(mask: Mask, height: int, width: int) -> Mask:
    """Resize class ids (h, w) to the size of the image by nearest neighbor."""
    if mask.shape == (height, width):
        return mask
    # Aligned by pixel corners, as in openvino-model-api, so that both give the same masks. Aligned by pixel centers,
    # as masks are resized for training, results would differ wherever the factor is not an integer.
    return cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST).astype(np.uint8)
