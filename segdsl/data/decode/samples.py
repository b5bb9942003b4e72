"""Images other than 8-bit RGB: reading their samples, and converting them to uint8 and to the model's channels.

Pillow reads at most four 8-bit channels and silently truncates deeper ones. 16-bit files therefore go to OpenCV, and
TIFFs with more channels or pages to tifffile (module ``tiff``).
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image

from segdsl.diagnostics import Diagnostic, SegError, fail
from segdsl.ir.values import Range, format_number
from segdsl.text.plural import format_count

# OpenCV writes warnings about odd files to stderr; whatever matters is reported as a diagnostic.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
LUMA_WEIGHTS = (0.299, 0.587, 0.114)
"""Luma weights of R, G and B (ITU-R BT.601)."""


EXIF_TRANSFORMS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud, 5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1), 7: lambda a: np.rot90(a, 2).swapaxes(0, 1), 8: np.rot90,
}  # fmt: skip
"""The transform that makes an image upright, by EXIF orientation."""


def turn_upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Apply EXIF's ``orientation`` to pixels (H, W, C)."""
    return np.ascontiguousarray(EXIF_TRANSFORMS[orientation](pixels))


def decode_deep_samples(data: bytes) -> np.ndarray | None:
    """Decode a 16-bit PNG or TIFF of up to four channels to (H, W, C); return None if OpenCV cannot."""
    samples = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if samples is None or samples.ndim not in (2, 3):
        return None
    if samples.ndim == 3 and samples.shape[2] in (3, 4):
        samples = cv2.cvtColor(samples, cv2.COLOR_BGRA2RGBA if samples.shape[2] == 4 else cv2.COLOR_BGR2RGB)
    return samples if samples.ndim == 3 else samples[:, :, None]


def extract_samples(image: Image.Image) -> np.ndarray:
    """Return the samples of a decoded Pillow image, (H, W, channels); palettes are resolved, 1-bit becomes 8-bit."""
    if image.mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    elif image.mode not in ("L", "LA", "RGB", "RGBA", "F") and not image.mode.startswith("I"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    samples = np.asarray(image)
    # Pillow opens some 16-bit grayscale files in mode "I", as int32.
    if samples.dtype == np.int32 and samples.min() >= 0 and samples.max() <= 65535:
        samples = samples.astype(np.uint16)
    return samples if samples.ndim == 3 else samples[:, :, None]


def require_finite(samples: np.ndarray, path: object) -> None:
    """Raise :class:`SegError` (`image-depth-unknown`) if a sample is NaN or infinite."""
    if samples.dtype.kind == "f" and not np.isfinite(samples).all():
        message = "some pixel values are NaN or infinite"
        raise fail("image-depth-unknown", message, "replace them with a finite value, such as 0", path=str(path))


def scale_to_uint8(samples: np.ndarray, levels: Range | None, path: object) -> np.ndarray:
    """Scale samples to uint8 so that ``levels`` become 0 and 255; by default the full range of 8 or 16 bits.

    Raise :class:`SegError` (`image-depth-unknown`) for other depths without ``levels``.
    """
    if levels is not None:
        factor = 255 / (levels.high - levels.low)
        return np.rint((samples.astype(np.float32) - levels.low) * factor).clip(0, 255).astype(np.uint8)
    if samples.dtype == np.uint8:
        return np.ascontiguousarray(samples)
    # Keeping the high byte, without rounding, is what OpenCV does when it loads such a file as 8 bits.
    if samples.dtype == np.uint16:
        return (samples >> 8).astype(np.uint8)
    if samples.dtype == np.bool_:
        return samples.astype(np.uint8) * 255
    kind = "floating-point" if samples.dtype.kind == "f" else f"{8 * samples.dtype.itemsize}-bit integer"
    low, high = (float(f"{value:.4g}") for value in (samples.min(), samples.max()))
    message = (
        f"the pixels are {kind} values without a defined range; observed {format_number(low)} to {format_number(high)}"
    )
    help = f"set the values that map to black and white: `data.levels = {Range(low, high if high > low else low + 1)}`"
    raise fail("image-depth-unknown", message, help, path=str(path))


def convert_channels(samples: np.ndarray, channels: int | None, path: object, has_alpha: bool = False) -> np.ndarray:
    """Convert uint8 samples (H, W, C) to ``channels`` channels (None: leave them as they are).

    Grayscale is repeated to RGB, RGB is reduced to luma, and a last channel that is alpha (``has_alpha``) is dropped.
    Raise :class:`SegError` (`image-channels`) for any other difference.
    """
    have = samples.shape[2]
    if channels is None or have == channels:
        return samples
    colors = have - 1 if has_alpha else have
    if colors == channels:
        return np.ascontiguousarray(samples[:, :, :colors])
    if channels == 3 and colors == 1:
        return np.repeat(samples[:, :, :1], 3, axis=2)
    if channels == 1 and colors == 3:
        return np.rint(samples[:, :, :3] @ np.array(LUMA_WEIGHTS, np.float32)).astype(np.uint8)[:, :, None]
    raise SegError(check_channels(have, has_alpha, channels, path))


def check_channels(channels: int, has_alpha: bool, model_channels: int, path: object) -> list[Diagnostic]:
    """Return the error of an image that cannot be converted to ``model_channels``; an empty list if it can."""
    colors = channels - 1 if has_alpha else channels
    if model_channels in (channels, colors) or (colors, model_channels) in ((1, 3), (3, 1)):
        return []
    message = f"the image has {format_count(channels, 'channel')}, but the model takes {model_channels}"
    help = f"make the model accept it: `in image: [B, {channels}, H, W]`, or `in_channels = {channels}`"
    return [Diagnostic("image-channels", message, help, path=str(path))]
