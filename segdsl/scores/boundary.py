"""Boundary F1 score: how well predicted class outlines match the true ones.

After Csurka, Larlus and Perronnin, "What is a good evaluation measure for semantic segmentation?" (BMVC 2013): for a
class in an image, precision is the share of its predicted boundary within a tolerance of its true boundary, recall the
share of its true boundary within the tolerance of the predicted one, and the score is their harmonic mean. The score of
a class is the mean over the images in which it has a true or a predicted boundary.

A boundary pixel is a pixel of the class with a pixel of another class among its four neighbors. The image border is no
boundary, and neither is the border of an ignored region: what is true there is unknown, so predictions there do not
count. Distances are Euclidean, between pixel centers. A tolerance of 1 or more is in pixels; below 1 it is a share of
the image diagonal, rounded up, as in the benchmark of Perazzi et al. (CVPR 2016).
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.integer]


class BoundaryScores:
    """Boundary scores of ``classes`` classes over a subset, in memory that does not grow with the subset."""

    def __init__(self, classes: int, ignore: int, tolerance: float) -> None:
        self.ignore, self.tolerance = ignore, tolerance
        self._sums, self._image_counts = np.zeros(classes), np.zeros(classes, np.int64)

    def update(self, prediction: Ids, target: Ids) -> npt.NDArray[np.float64]:
        """Add one image, class ids (H, W) on both sides. Return its score by class, nan without a boundary."""
        scores = compute_boundary_f1(prediction, target, len(self._sums), self.ignore, self.tolerance)
        known = ~np.isnan(scores)
        self._sums[known] += scores[known]
        self._image_counts += known
        return scores

    @property
    def scores_by_class(self) -> npt.NDArray[np.float64]:
        """Mean score of each class over its images, nan for classes without a boundary in any image."""
        return np.divide(
            self._sums, self._image_counts, out=np.full(len(self._sums), np.nan), where=self._image_counts > 0
        )


def compute_boundary_f1(
    prediction: Ids, target: Ids, classes: int, ignore: int, tolerance: float
) -> npt.NDArray[np.float64]:
    """Return the score of each class in one image, class ids (H, W); nan where it has no boundary on either side."""
    # One pass over the whole image finds the boundaries; the distances, which are expensive, are computed only
    # inside the rectangle that holds those of a class.
    reach = tolerance if tolerance >= 1 else math.ceil(tolerance * math.hypot(*target.shape))
    valid = target != ignore
    ours, theirs = (np.where(_find_edges(ids, valid), ids.astype(np.int16), -1) for ids in (prediction, target))
    scores = np.full(classes, np.nan)
    places = _find_rectangles(ours, theirs)
    for k, place in places.items():
        predicted, true = ours[place] == k, theirs[place] == k
        precision, recall = _compute_share_near(predicted, true, reach), _compute_share_near(true, predicted, reach)
        scores[k] = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return scores


def _find_edges(ids: Ids, valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Mark pixels with another class among their four neighbors, where both pixels are ``valid``."""
    found = np.zeros(ids.shape, bool)
    down = (ids[:-1] != ids[1:]) & valid[:-1] & valid[1:]
    across = (ids[:, :-1] != ids[:, 1:]) & valid[:, :-1] & valid[:, 1:]
    found[:-1] |= down
    found[1:] |= down
    found[:, :-1] |= across
    found[:, 1:] |= across
    return found


def _find_rectangles(*maps: Ids) -> dict[int, tuple[slice, slice]]:
    """Return the smallest rectangle that holds each id >= 0 in all of the maps."""
    found: dict[int, tuple[slice, slice]] = {}
    points = [(m[at], *at) for m in maps for at in [np.nonzero(m >= 0)]]
    ids, rows, columns = (np.concatenate(parts) for parts in zip(*points, strict=True))
    for k in np.unique(ids).tolist():
        own = ids == k
        down, across = rows[own], columns[own]
        found[k] = slice(down.min(), down.max() + 1), slice(across.min(), across.max() + 1)
    return found


def _compute_share_near(points: npt.NDArray[np.bool_], others: npt.NDArray[np.bool_], reach: float) -> float:
    """Return the share of ``points`` with one of ``others`` within ``reach`` pixels; 0 if either is empty."""
    if not points.any() or not others.any():
        return 0.0
    distance = cv2.distanceTransform((~others).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return float((distance[points] <= reach).mean())
