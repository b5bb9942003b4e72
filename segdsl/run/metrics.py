"""Scores of a segmentation, all from one table of counts that is summed over a whole subset."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from segdsl.diagnostics import fail


class Confusion:
    """Pixel counts by true class (rows) and predicted class (columns); ignored pixels are in neither.

    A class that occurs on neither side has no score and is left out of the means; one that is predicted but never true
    scores 0. With no pixel to score the means are nan.
    """

    def __init__(self, classes: Sequence[str], ignore: int) -> None:
        self.classes = tuple(classes)
        self.ignore = ignore
        self.counts = np.zeros((len(self.classes), len(self.classes)), dtype=np.int64)

    def update(self, prediction: npt.NDArray[np.integer], target: npt.NDArray[np.integer]) -> None:
        """Adds predicted and true class ids, two arrays of one shape.

        Raises SegError (`mask-value-out-of-range`) for a target that is neither a class id nor the ignore value.
        """
        count = len(self.classes)
        valid = target != self.ignore
        truth = target[valid].astype(np.int64)
        if truth.size and truth.max() >= count:
            raise fail(
                "mask-value-out-of-range",
                f"a mask holds the value {truth.max()}, and there are {count} classes (0 to {count - 1})",
                "run `segdsl data check` on the data set to find the file",
            )
        pairs = truth * count + prediction[valid]
        self.counts += np.bincount(pairs, minlength=count * count).reshape(count, count)

    @property
    def pixels(self) -> int:
        """How many pixels were scored."""
        return int(self.counts.sum())

    @property
    def dice_by_class(self) -> npt.NDArray[np.float64]:
        """2 TP / (2 TP + FP + FN) of each class, nan for those on neither side."""
        hits, sizes = self.counts.diagonal(), self.counts.sum(0) + self.counts.sum(1)
        return _ratio(2 * hits, sizes)

    @property
    def iou_by_class(self) -> npt.NDArray[np.float64]:
        """TP / (TP + FP + FN) of each class, nan for those on neither side."""
        hits = self.counts.diagonal()
        return _ratio(hits, self.counts.sum(0) + self.counts.sum(1) - hits)

    @property
    def dice(self) -> float:
        """Mean Dice over the classes, background included."""
        return _mean(self.dice_by_class)

    @property
    def miou(self) -> float:
        """Mean intersection over union over the classes."""
        return _mean(self.iou_by_class)

    @property
    def accuracy(self) -> float:
        """Share of the scored pixels that are right."""
        return float(self.counts.trace() / self.pixels) if self.pixels else float("nan")

    def summary(self) -> dict[str, float]:
        """`dice`, `miou` and `accuracy`."""
        return {"dice": self.dice, "miou": self.miou, "accuracy": self.accuracy}

    def per_class(self) -> dict[str, dict[str, float | None]]:
        """`dice` and `iou` of each class by name; None for a class that does not occur."""
        scores = zip(self.classes, self.dice_by_class.tolist(), self.iou_by_class.tolist(), strict=True)
        return {name: {"dice": _or_none(dice), "iou": _or_none(iou)} for name, dice, iou in scores}


def _ratio(part: npt.NDArray[np.int64], whole: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)


def _mean(scores: npt.NDArray[np.float64]) -> float:
    known = scores[~np.isnan(scores)]
    return float(known.mean()) if known.size else float("nan")


def _or_none(score: float) -> float | None:
    return None if np.isnan(score) else score
