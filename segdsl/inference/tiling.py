"""How an image is shown to a network: whole or in windows that overlap, mirrored too, and at several scales.

What the network says is averaged as probabilities, and only then turned into classes. Windows are of one size, the last
of a row moved inwards, so that every pixel is covered and none is seen enlarged; an image smaller than a window is
mirrored at its right and lower edge (Ronneberger et al., U-Net, 2015). What they say is blended by weights that are 0
in the outer quarter of the overlap, rise as a cosine in its middle half, and add up to 1 everywhere: a network that
sees no further than that quarter says the same in windows as it would of the whole image.

Scores are held for one row of windows, classes x height of a window x width of the image x 4 bytes, and not for the
whole image; several scales hold up to three times as much for each of them.
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
"""So many rows of several scales are averaged at once."""
Weights = npt.NDArray[np.float32]
Scores = Callable[[Image], Maps]
"""The probabilities of a window, at its size."""


def classify(model: Model, image: Image) -> Mask:
    """The best class of every pixel, looked at as the section `eval` of the program says: (h, w) of the image where
    `eval.tile` names a window, else of the network's input."""
    said = model.program.eval
    if said.tile is None and not said.flip and said.scales == (1.0,):
        return model.classify(image)
    base = model.input_size if said.tile is None else Size(image.shape[0], image.shape[1])
    window = said.tile or model.input_size
    scores = partial(_scores, model, said.flip)
    parts = [_scaled(scores, image, base, window, said, scale) for scale in said.scales]
    ids = np.empty((base.height, base.width), np.uint8)
    if said.scales == (1.0,):
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
    """The probabilities of a window at its size, averaged with those of its mirror image where ``flip`` says so."""
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
    """The first class of the highest score, (C, h, w) to (h, w). Needs no copy of the maps, as argmax does."""
    best, ids = maps[0].copy(), np.zeros(maps.shape[1:], np.uint8)
    for k in range(1, len(maps)):
        ids[maps[k] > best] = k
        np.maximum(best, maps[k], out=best)
    return ids


def bands(scores: Scores, image: Image, window: Size, overlap: float) -> Iterator[Maps]:
    """The blended probabilities of an image (H, W, C) from top to bottom, (classes, rows, W) at a time.

    ``scores`` is given windows of the size ``window`` that have at least the share ``overlap`` in common. What is
    yielded is overwritten when the next is asked for.
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
        done = rows[k + 1] - top if k + 1 < len(rows) else window.height
        yield buffer[:, : min(done, height - top), :width]
        buffer[:, : window.height - done] = buffer[:, done:]
        buffer[:, window.height - done :] = 0


def _filled(image: Image, window: Size) -> Image:
    """The image, mirrored at its right and lower edge where it is smaller than a window."""
    below, right = max(window.height - image.shape[0], 0), max(window.width - image.shape[1], 0)
    return np.pad(image, ((0, below), (0, right), (0, 0)), mode="symmetric") if below or right else image


def blend(length: int, window: int, overlap: float) -> tuple[list[int], list[Weights]]:
    """Where windows begin along an axis of ``length`` >= ``window`` pixels, evenly spread, and their weights, which
    add up to 1 in every pixel."""
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
    """The weights along a window, which fall off at its ``first`` and ``last`` pixels where another one goes on."""
    margin = shared // 4
    inside = np.arange(window) + 0.5
    rise = np.clip((inside - margin) / max(shared - 2 * margin, 1), 0, 1)
    ramp = (1 - np.cos(np.pi * rise)) / 2
    return (ramp if first else np.ones(window)) * (ramp[::-1] if last else np.ones(window))


class Resampled:
    """Probabilities that come in bands of the size ``given``, taken from top to bottom at the size ``wanted``, bilinear
    between the centres of pixels."""

    def __init__(self, bands: Iterator[Maps], given: Size, wanted: Size) -> None:
        self.bands = bands
        self._above, self._below, self._down = _between(given.height, wanted.height)
        self._width = wanted.width
        self._rows: list[Maps] = []
        self._first = 0

    def take(self, top: int, bottom: int) -> Maps:
        """The rows from ``top`` to ``bottom``, (classes, bottom - top, W); no call may begin above the one before."""
        above, below, share = self._above[top:bottom], self._below[top:bottom], self._down[top:bottom]
        while self._rows and self._first + self._rows[0].shape[1] <= above[0]:
            self._first += self._rows.pop(0).shape[1]
        while self._first + sum(r.shape[1] for r in self._rows) <= below[-1]:
            band = next(self.bands)
            # in parts, so that those which are done with are let go early
            self._rows += [self._widened(band[:, k : k + ROWS]) for k in range(0, band.shape[1], ROWS)]
        rows = np.concatenate([part[:, a:b] for part, a, b in self._wanted(above[0], below[-1] + 1)], axis=1)
        first, second = rows[:, above - above[0]], rows[:, below - above[0]]
        second -= first
        second *= share[:, None]
        second += first
        return second

    def _wanted(self, top: int, bottom: int) -> Iterator[tuple[Maps, int, int]]:
        """The bands that are held, and from which to which of its rows each has some of ``top`` to ``bottom``."""
        first = self._first
        for part in self._rows:
            yield part, max(top - first, 0), bottom - first
            first += part.shape[1]

    def _widened(self, band: Maps) -> Maps:
        return np.stack([cv2.resize(m, (self._width, band.shape[1])) for m in band]).astype(np.float32, copy=False)


def _between(given: int, wanted: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], Weights]:
    """For each of ``wanted`` pixels the two of ``given`` that it lies between, and how close to the second."""
    place = np.clip((np.arange(wanted) + 0.5) * given / wanted - 0.5, 0, given - 1)
    low = np.floor(place).astype(np.intp)
    return low, np.minimum(low + 1, given - 1), (place - low).astype(np.float32)
