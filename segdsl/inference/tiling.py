"""Tiled inference and test-time augmentation: overlapping windows, horizontal flips and several scales.

Probabilities are averaged, and only the average is turned into classes. All windows have the same size; the last one of
a row is moved inwards, so that every pixel is covered and none is enlarged. An image smaller than a window is mirrored
at its right and lower edge (Ronneberger et al., U-Net, 2015). Windows are blended with weights that are 0 in the outer
quarter of the overlap, rise as a cosine in its middle half, and add up to 1 everywhere: a network whose receptive field
reaches no further than that quarter gives the same result in windows as on the whole image.

Probabilities are held for one row of windows (classes x window height x image width x 4 bytes), not for the whole
image; several scales need up to three times as much each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import cv2
import numpy as np
import numpy.typing as npt

from segdsl.inference.models.model import Model
from segdsl.inference.preprocess import ClassMaps, Image, Mask, stretch_image
from segdsl.ir.program import Eval
from segdsl.ir.values import Size

ROWS_PER_STEP = 64
"""Number of rows that are averaged over several scales at once."""
Weights = npt.NDArray[np.float32]
WindowScorer = Callable[[Image], ClassMaps]
"""Maps a window (h, w, C) to its probabilities (K, h, w)."""


def classify_image(model: Model, image: Image) -> Mask:
    """Predict the class ids of an image as set in the section `eval` of the program.

    Returns (H, W) at image size if `eval.tile` sets a window, else (h, w) at input size.
    """
    settings = model.program.eval
    if settings.tile is None and not settings.flip and settings.scales == (1.0,):
        return model.predict_input_mask(image)
    base = model.input_size if settings.tile is None else Size(image.shape[0], image.shape[1])
    window = settings.tile or model.input_size
    scores = partial(_score_window, model, settings.flip)
    parts = [_predict_scale(scores, image, base, window, settings, scale) for scale in settings.scales]
    ids = np.empty((base.height, base.width), np.uint8)
    if settings.scales == (1.0,):
        # Without resampling, bands are used as they come.
        top = 0
        for band in parts[0].bands:
            ids[top : top + band.shape[1]] = select_best_class(band)
            top += band.shape[1]
        return ids
    for top in range(0, base.height, ROWS_PER_STEP):
        bottom = min(top + ROWS_PER_STEP, base.height)
        ids[top:bottom] = select_best_class(
            sum((part.take_rows(top, bottom) for part in parts[1:]), parts[0].take_rows(top, bottom))
        )
    return ids


def _score_window(model: Model, flip: bool, window: Image) -> ClassMaps:
    """Return the probabilities of a window at its size; with ``flip``, averaged with those of its mirror image."""
    maps = model.predict_probabilities(window)
    if flip:
        maps = (maps + model.predict_probabilities(window[:, ::-1])[:, :, ::-1]) * np.float32(0.5)
    height, width = window.shape[:2]
    if maps.shape[1:] == (height, width):
        return maps
    return np.stack([cv2.resize(np.ascontiguousarray(m), (width, height)) for m in maps]).astype(np.float32, copy=False)


def _predict_scale(
    scores: WindowScorer, image: Image, base: Size, window: Size, settings: Eval, scale: float
) -> BandResampler:
    size = Size(max(round(base.height * scale), 1), max(round(base.width * scale), 1))
    return BandResampler(iterate_bands(scores, stretch_image(image, size), window, settings.overlap), size, base)


def select_best_class(maps: ClassMaps) -> Mask:
    """Return the class of the highest score, the first of equal ones: (K, h, w) to (h, w)."""
    # Not argmax, which would copy all maps to make the class axis the last one.
    best, ids = maps[0].copy(), np.zeros(maps.shape[1:], np.uint8)
    for k in range(1, len(maps)):
        ids[maps[k] > best] = k
        np.maximum(best, maps[k], out=best)
    return ids


def iterate_bands(scores: WindowScorer, image: Image, window: Size, overlap: float) -> Iterator[ClassMaps]:
    """Yield the blended probabilities of an image (H, W, C) from top to bottom, in bands (K, rows, W).

    Neighboring windows overlap by at least the share ``overlap``. A band is overwritten when the next one is requested.
    """
    height, width = image.shape[:2]
    image = _pad_to_window(image, window)
    rows, down = plan_windows(image.shape[0], window.height, overlap)
    columns, across = plan_windows(image.shape[1], window.width, overlap)
    buffer: ClassMaps | None = None
    for k, top in enumerate(rows):
        for left, weight in zip(columns, across, strict=True):
            maps = scores(image[top : top + window.height, left : left + window.width])
            if buffer is None:
                buffer = np.zeros((len(maps), window.height, image.shape[1]), np.float32)
            buffer[:, :, left : left + window.width] += maps * (down[k][:, None] * weight)
        assert buffer is not None
        # Rows above the next row of windows are complete; the rest moves up and gets its share from that row.
        done = rows[k + 1] - top if k + 1 < len(rows) else window.height
        yield buffer[:, : min(done, height - top), :width]
        buffer[:, : window.height - done] = buffer[:, done:]
        buffer[:, window.height - done :] = 0


def _pad_to_window(image: Image, window: Size) -> Image:
    """Mirror the image at its right and lower edge where it is smaller than a window."""
    below, right = max(window.height - image.shape[0], 0), max(window.width - image.shape[1], 0)
    return np.pad(image, ((0, below), (0, right), (0, 0)), mode="symmetric") if below or right else image


def plan_windows(length: int, window: int, overlap: float) -> tuple[list[int], list[Weights]]:
    """Place windows evenly along an axis of ``length`` >= ``window`` pixels; return their starts and weights.

    The weights add up to 1 at every pixel.
    """
    # A window has to advance by at least one pixel.
    shared = min(int(np.ceil(window * overlap)), window - 1)
    count = -(-(length - window) // (window - shared)) + 1
    starts = [k * (length - window) // max(count - 1, 1) for k in range(count)]
    weights = [_compute_window_weights(window, shared, start > 0, start + window < length) for start in starts]
    total = np.zeros(length)
    for start, weight in zip(starts, weights, strict=True):
        total[start : start + window] += weight
    return starts, [
        (weight / total[start : start + window]).astype(np.float32)
        for start, weight in zip(starts, weights, strict=True)
    ]


def _compute_window_weights(window: int, shared: int, fades_in: bool, fades_out: bool) -> npt.NDArray[np.float64]:
    """Return the weights along a window, with a ramp at each end where it overlaps another one."""
    # The outer quarter has weight 0: there, the receptive field is cut off by the edge of the window.
    margin = shared // 4
    centers = np.arange(window) + 0.5
    rise = np.clip((centers - margin) / max(shared - 2 * margin, 1), 0, 1)
    ramp = (1 - np.cos(np.pi * rise)) / 2
    return (ramp if fades_in else np.ones(window)) * (ramp[::-1] if fades_out else np.ones(window))


class BandResampler:
    """Resizes probabilities that arrive in bands from ``source_size`` to ``target_size``, from top to bottom.

    Bilinear between pixel centers. Only the bands that the current rows need are held in memory.
    """

    def __init__(self, bands: Iterator[ClassMaps], source_size: Size, target_size: Size) -> None:
        self.bands = bands
        self._upper_rows, self._lower_rows, self._lower_shares = _compute_interpolation(
            source_size.height, target_size.height
        )
        self._width = target_size.width
        self._buffer: list[ClassMaps] = []
        self._first_row = 0

    def take_rows(self, top: int, bottom: int) -> ClassMaps:
        """Return the rows from ``top`` to ``bottom`` (K, bottom - top, W); calls must proceed downwards."""
        above, below, share = self._upper_rows[top:bottom], self._lower_rows[top:bottom], self._lower_shares[top:bottom]
        while self._buffer and self._first_row + self._buffer[0].shape[1] <= above[0]:
            self._first_row += self._buffer.pop(0).shape[1]
        while self._first_row + sum(r.shape[1] for r in self._buffer) <= below[-1]:
            band = next(self.bands)
            # Split, so that rows can be released early.
            self._buffer += [
                self._resize_width(band[:, k : k + ROWS_PER_STEP]) for k in range(0, band.shape[1], ROWS_PER_STEP)
            ]
        rows = np.concatenate([part[:, a:b] for part, a, b in self._select_bands(above[0], below[-1] + 1)], axis=1)
        first, second = rows[:, above - above[0]], rows[:, below - above[0]]
        # In place: these arrays are as large as a band of all classes.
        second -= first
        second *= share[:, None]
        second += first
        return second

    def _select_bands(self, top: int, bottom: int) -> Iterator[tuple[ClassMaps, int, int]]:
        """Yield the bands in memory, each with the range of its rows between ``top`` and ``bottom``."""
        first = self._first_row
        for part in self._buffer:
            yield part, max(top - first, 0), bottom - first
            first += part.shape[1]

    def _resize_width(self, band: ClassMaps) -> ClassMaps:
        return np.stack([cv2.resize(m, (self._width, band.shape[1])) for m in band]).astype(np.float32, copy=False)


def _compute_interpolation(
    source_length: int, target_length: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], Weights]:
    """Return, for each target pixel, the two source pixels around its center and the weight of the second."""
    position = np.clip((np.arange(target_length) + 0.5) * source_length / target_length - 0.5, 0, source_length - 1)
    low = np.floor(position).astype(np.intp)
    return low, np.minimum(low + 1, source_length - 1), (position - low).astype(np.float32)
