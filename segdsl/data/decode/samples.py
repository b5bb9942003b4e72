"""Images of other depths and channels than 8-bit RGB: their samples as they are stored, and how they become uint8.

Pillow reads four channels of 8 bits at most and cuts deeper ones without a word, so that those of 16 bits go to OpenCV,
and TIFF of more channels or pages to tifffile (``tiff``).
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image

from segdsl.diagnostics import Diagnostic, SegError, fail
from segdsl.ir.values import Range, number

cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # it would write of what it finds odd in a file
GREY_OF_RGB = (0.299, 0.587, 0.114)
"""The luma of ITU-R BT.601."""


TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud, 5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1), 7: lambda a: np.rot90(a, 2).swapaxes(0, 1), 8: np.rot90,
}  # fmt: skip
"""What undoes EXIF's orientation, by its number."""


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """The pixels (H, W, C), turned as EXIF's ``orientation`` says."""
    return np.ascontiguousarray(TURNS[orientation](pixels))


def deep_samples(data: bytes) -> np.ndarray | None:
    """The samples of a PNG or TIFF of 16 bits, up to four channels, (H, W, C); None where OpenCV does not decode it."""
    samples = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if samples is None or samples.ndim not in (2, 3):
        return None
    if samples.ndim == 3 and samples.shape[2] in (3, 4):
        samples = cv2.cvtColor(samples, cv2.COLOR_BGRA2RGBA if samples.shape[2] == 4 else cv2.COLOR_BGR2RGB)
    return samples if samples.ndim == 3 else samples[:, :, None]


def pillow_samples(picture: Image.Image) -> np.ndarray:
    """The samples of a decoded Pillow image, (H, W, channels): palettes and bilevel images as what they show."""
    if picture.mode == "P":
        picture = picture.convert("RGBA" if "transparency" in picture.info else "RGB")
    elif picture.mode not in ("L", "LA", "RGB", "RGBA", "F") and not picture.mode.startswith("I"):
        picture = picture.convert("L" if picture.mode == "1" else "RGB")
    samples = np.asarray(picture)
    if samples.dtype == np.int32 and samples.min() >= 0 and samples.max() <= 65535:
        samples = samples.astype(np.uint16)  # how Pillow holds grey of 16 bits
    return samples if samples.ndim == 3 else samples[:, :, None]


def require_finite(samples: np.ndarray, path: object) -> None:
    """Raises :class:`SegError` (`image-depth-unknown`) where a sample is infinite or no number."""
    if samples.dtype.kind == "f" and not np.isfinite(samples).all():
        message = "the pixels hold numbers that are not finite"
        raise fail("image-depth-unknown", message, "replace them by a value, such as 0", path=str(path))


def to_bytes(samples: np.ndarray, levels: Range | None, path: object) -> np.ndarray:
    """The samples as uint8: ``levels`` become 0 and 255, by default the whole range of 8 or 16 bits.

    Raises :class:`SegError` (`image-depth-unknown`) for other depths without levels.
    """
    if levels is not None:
        factor = 255 / (levels.high - levels.low)
        return np.rint((samples.astype(np.float32) - levels.low) * factor).clip(0, 255).astype(np.uint8)
    if samples.dtype == np.uint8:
        return np.ascontiguousarray(samples)
    if samples.dtype == np.uint16:
        return (samples >> 8).astype(np.uint8)
    if samples.dtype == np.bool_:
        return samples.astype(np.uint8) * 255
    what = "floating-point numbers" if samples.dtype.kind == "f" else f"integers of {8 * samples.dtype.itemsize} bits"
    low, high = (float(f"{value:.4g}") for value in (samples.min(), samples.max()))
    message = f"the pixels are {what}, with no known black and white; here they go from {number(low)} to {number(high)}"
    help = f"say which values become black and white: `data.levels = {Range(low, high if high > low else low + 1)}`"
    raise fail("image-depth-unknown", message, help, path=str(path))


def to_channels(samples: np.ndarray, channels: int | None, path: object, alpha: bool = False) -> np.ndarray:
    """uint8 samples as an image of ``channels`` (None: as many as there are).

    Grey is repeated for RGB, RGB weighed for grey; a last channel that is no colour (``alpha``) is dropped. Raises
    :class:`SegError` (`image-channels`) for any other difference.
    """
    have = samples.shape[2]
    if channels is None or have == channels:
        return samples
    colors = have - 1 if alpha else have
    if colors == channels:
        return np.ascontiguousarray(samples[:, :, :colors])
    if channels == 3 and colors == 1:
        return np.repeat(samples[:, :, :1], 3, axis=2)
    if channels == 1 and colors == 3:
        return np.rint(samples[:, :, :3] @ np.array(GREY_OF_RGB, np.float32)).astype(np.uint8)[:, :, None]
    raise SegError(not_the_channels(have, alpha, channels, path))


def not_the_channels(have: int, alpha: bool, wanted: int, path: object) -> list[Diagnostic]:
    """The error of an image whose channels cannot become those that are ``wanted``; none where they can."""
    colors = have - 1 if alpha else have
    if wanted in (have, colors) or (colors, wanted) in ((1, 3), (3, 1)):
        return []
    message = f"the image has {have} channels, the model takes {wanted}"
    help = f"make the model one for {have} channels: `in image: [B, {have}, H, W]`, or `in_channels = {have}`"
    return [Diagnostic("image-channels", message, help, path=str(path))]
