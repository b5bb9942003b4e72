"""How well the outlines of classes are met: the boundary F1 score.

After Csurka, Larlus and Perronnin, "What is a good evaluation measure for semantic segmentation?" (BMVC 2013): of a
class in an image, precision is the share of its predicted boundary that lies within a tolerance of its true boundary,
recall the share of the true boundary that lies within it of the predicted one, and the score is their harmonic mean.
The score of a class is the mean over the images in which it has a boundary on either side.

A boundary is made of pixels of the class one of whose four neighbours is another class. The edge of the image is none,
and neither is void: what lies there is not known, and what is predicted there is not looked at. Distances are
Euclidean, between the centres of pixels. A tolerance from 1 on is in pixels; below 1 it is a share of the diagonal of
the image and rounded up, as in the benchmark of Perazzi et al. (CVPR 2016).
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.integer]


class Boundaries:
    """Boundary scores of ``classes`` classes over a subset; memory does not grow with it."""

    def __init__(self, classes: int, ignore: int, tolerance: float) -> None:
        self.ignore, self.tolerance = ignore, tolerance
        self._sums, self._images = np.zeros(classes), np.zeros(classes, np.int64)

    def update(self, prediction: Ids, target: Ids) -> npt.NDArray[np.float64]:
        """Adds one image, class ids (H, W) on both sides; gives its score by class, nan without a boundary."""
        scores = boundary_f1(prediction, target, len(self._sums), self.ignore, self.tolerance)
        known = ~np.isnan(scores)
        self._sums[known] += scores[known]
        self._images += known
        return scores

    @property
    def by_class(self) -> npt.NDArray[np.float64]:
        """The mean over the images of each class, nan for those that have no boundary in any."""
        return np.divide(self._sums, self._images, out=np.full(len(self._sums), np.nan), where=self._images > 0)


def boundary_f1(prediction: Ids, target: Ids, classes: int, ignore: int, tolerance: float) -> npt.NDArray[np.float64]:
    """The score of each class in one image, class ids (H, W); nan where it has no boundary on either side.

    One pass over the pixels, and for each class two over the rectangle that holds its boundaries.
    """
    reach = tolerance if tolerance >= 1 else math.ceil(tolerance * math.hypot(*target.shape))
    valid = target != ignore
    ours, theirs = (np.where(_edges(ids, valid), ids.astype(np.int16), -1) for ids in (prediction, target))
    scores = np.full(classes, np.nan)
    places = _rectangles(ours, theirs)
    for k, place in places.items():
        predicted, true = ours[place] == k, theirs[place] == k
        precision, recall = _near(predicted, true, reach), _near(true, predicted, reach)
        scores[k] = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return scores


def _edges(ids: Ids, valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Pixels one of whose four neighbours is another class, both of them ``valid``."""
    found = np.zeros(ids.shape, bool)
    down = (ids[:-1] != ids[1:]) & valid[:-1] & valid[1:]
    across = (ids[:, :-1] != ids[:, 1:]) & valid[:, :-1] & valid[:, 1:]
    found[:-1] |= down
    found[1:] |= down
    found[:, :-1] |= across
    found[:, 1:] |= across
    return found


def _rectangles(*maps: Ids) -> dict[int, tuple[slice, slice]]:
    """The smallest rectangle that holds each id >= 0 in all of the maps."""
    found: dict[int, tuple[slice, slice]] = {}
    points = [(m[at], *at) for m in maps for at in [np.nonzero(m >= 0)]]
    ids, rows, columns = (np.concatenate(parts) for parts in zip(*points, strict=True))
    for k in np.unique(ids).tolist():
        own = ids == k
        down, across = rows[own], columns[own]
        found[k] = slice(down.min(), down.max() + 1), slice(across.min(), across.max() + 1)
    return found


def _near(points: npt.NDArray[np.bool_], others: npt.NDArray[np.bool_], reach: float) -> float:
    """The share of ``points`` that have one of ``others`` within ``reach`` pixels; 0 where one of them is empty."""
    if not points.any() or not others.any():
        return 0.0
    distance = cv2.distanceTransform((~others).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return float((distance[points] <= reach).mean())
