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
from segdsl.inference.preprocess import Image, Maps, Mask, stretch
from segdsl.ir.program import Eval
from segdsl.ir.values import Size

ROWS = 64
"""Number of rows that are averaged over several scales at once."""
Weights = npt.NDArray[np.float32]
Scores = Callable[[Image], Maps]
"""Maps a window (h, w, C) to its probabilities (K, h, w)."""


def classify(model: Model, image: Image) -> Mask:
    """Predict the class ids of an image as set in the section `eval` of the program.

    Returns (H, W) at image size if `eval.tile` sets a window, else (h, w) at input size.
    """
    settings = model.program.eval
    if settings.tile is None and not settings.flip and settings.scales == (1.0,):
        return model.classify(image)
    base = model.input_size if settings.tile is None else Size(image.shape[0], image.shape[1])
    window = settings.tile or model.input_size
    scores = partial(_scores, model, settings.flip)
    parts = [_scaled(scores, image, base, window, settings, scale) for scale in settings.scales]
    ids = np.empty((base.height, base.width), np.uint8)
    if settings.scales == (1.0,):
        # Without resampling, bands are used as they come.
        top = 0
        for band in parts[0].bands:
            ids[top : top + band.shape[1]] = best_class(band)
            top += band.shape[1]
        return ids
    for top in range(0, base.height, ROWS):
        bottom = min(top + ROWS, base.height)
        ids[top:bottom] = best_class(sum((part.take(top, bottom) for part in parts[1:]), parts[0].take(top, bottom)))
    return ids


def _scores(model: Model, flip: bool, window: Image) -> Maps:
    """Return the probabilities of a window at its size; with ``flip``, averaged with those of its mirror image."""
    maps = model.scores(window)
    if flip:
        maps = (maps + model.scores(window[:, ::-1])[:, :, ::-1]) * np.float32(0.5)
    height, width = window.shape[:2]
    if maps.shape[1:] == (height, width):
        return maps
    return np.stack([cv2.resize(np.ascontiguousarray(m), (width, height)) for m in maps]).astype(np.float32, copy=False)


def _scaled(scores: Scores, image: Image, base: Size, window: Size, said: Eval, scale: float) -> Resampled:
    size = Size(max(round(base.height * scale), 1), max(round(base.width * scale), 1))
    return Resampled(bands(scores, stretch(image, size), window, said.overlap), size, base)


def best_class(maps: Maps) -> Mask:
    """Return the class of the highest score, the first of equal ones: (K, h, w) to (h, w)."""
    # Not argmax, which would copy all maps to make the class axis the last one.
    best, ids = maps[0].copy(), np.zeros(maps.shape[1:], np.uint8)
    for k in range(1, len(maps)):
        ids[maps[k] > best] = k
        np.maximum(best, maps[k], out=best)
    return ids


def bands(scores: Scores, image: Image, window: Size, overlap: float) -> Iterator[Maps]:
    """Yield the blended probabilities of an image (H, W, C) from top to bottom, in bands (K, rows, W).

    Neighboring windows overlap by at least the share ``overlap``. A band is overwritten when the next one is requested.
    """
    height, width = image.shape[:2]
    image = _filled(image, window)
    rows, down = blend(image.shape[0], window.height, overlap)
    columns, across = blend(image.shape[1], window.width, overlap)
    buffer: Maps | None = None
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


def _filled(image: Image, window: Size) -> Image:
    """Mirror the image at its right and lower edge where it is smaller than a window."""
    below, right = max(window.height - image.shape[0], 0), max(window.width - image.shape[1], 0)
    return np.pad(image, ((0, below), (0, right), (0, 0)), mode="symmetric") if below or right else image


def blend(length: int, window: int, overlap: float) -> tuple[list[int], list[Weights]]:
    """Place windows evenly along an axis of ``length`` >= ``window`` pixels; return their starts and weights.

    The weights add up to 1 at every pixel.
    """
    # A window has to advance by at least one pixel.
    shared = min(int(np.ceil(window * overlap)), window - 1)
    count = -(-(length - window) // (window - shared)) + 1
    starts = [k * (length - window) // max(count - 1, 1) for k in range(count)]
    weights = [_weights(window, shared, start > 0, start + window < length) for start in starts]
    total = np.zeros(length)
    for start, weight in zip(starts, weights, strict=True):
        total[start : start + window] += weight
    return starts, [
        (weight / total[start : start + window]).astype(np.float32)
        for start, weight in zip(starts, weights, strict=True)
    ]


def _weights(window: int, shared: int, first: bool, last: bool) -> npt.NDArray[np.float64]:
    """Return the weights along a window, with a ramp at each end where it overlaps another one."""
    # The outer quarter has weight 0: there, the receptive field is cut off by the edge of the window.
    margin = shared // 4
    centers = np.arange(window) + 0.5
    rise = np.clip((centers - margin) / max(shared - 2 * margin, 1), 0, 1)
    ramp = (1 - np.cos(np.pi * rise)) / 2
    return (ramp if first else np.ones(window)) * (ramp[::-1] if last else np.ones(window))


class Resampled:
    """Resizes probabilities that arrive in bands from ``source_size`` to ``target_size``, from top to bottom.

    Bilinear between pixel centers. Only the bands that the current rows need are held in memory.
    """

    def __init__(self, bands: Iterator[Maps], given: Size, wanted: Size) -> None:
        self.bands = bands
        self._above, self._below, self._down = _between(given.height, wanted.height)
        self._width = wanted.width
        self._rows: list[Maps] = []
        self._first = 0

    def take(self, top: int, bottom: int) -> Maps:
        """Return the rows from ``top`` to ``bottom`` (K, bottom - top, W); calls must proceed downwards."""
        above, below, share = self._above[top:bottom], self._below[top:bottom], self._down[top:bottom]
        while self._rows and self._first + self._rows[0].shape[1] <= above[0]:
            self._first += self._rows.pop(0).shape[1]
        while self._first + sum(r.shape[1] for r in self._rows) <= below[-1]:
            band = next(self.bands)
            # Split, so that rows can be released early.
            self._rows += [self._widened(band[:, k : k + ROWS]) for k in range(0, band.shape[1], ROWS)]
        rows = np.concatenate([part[:, a:b] for part, a, b in self._wanted(above[0], below[-1] + 1)], axis=1)
        first, second = rows[:, above - above[0]], rows[:, below - above[0]]
        # In place: these arrays are as large as a band of all classes.
        second -= first
        second *= share[:, None]
        second += first
        return second

    def _wanted(self, top: int, bottom: int) -> Iterator[tuple[Maps, int, int]]:
        """Yield the bands in memory, each with the range of its rows between ``top`` and ``bottom``."""
        first = self._first
        for part in self._rows:
            yield part, max(top - first, 0), bottom - first
            first += part.shape[1]

    def _widened(self, band: Maps) -> Maps:
        return np.stack([cv2.resize(m, (self._width, band.shape[1])) for m in band]).astype(np.float32, copy=False)


def _between(given: int, wanted: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], Weights]:
    """Return, for each target pixel, the two source pixels around its center and the weight of the second."""
    position = np.clip((np.arange(wanted) + 0.5) * given / wanted - 0.5, 0, given - 1)
    low = np.floor(position).astype(np.intp)
    return low, np.minimum(low + 1, given - 1), (position - low).astype(np.float32)
