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

    def add(self, other: Confusion) -> None:
        """Adds the counts of another one over the same classes."""
        self.counts += other.counts

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
    def precision_by_class(self) -> npt.NDArray[np.float64]:
        """TP / (TP + FP) of each class, nan for those that are never predicted."""
        return _ratio(self.counts.diagonal(), self.predicted)

    @property
    def recall_by_class(self) -> npt.NDArray[np.float64]:
        """TP / (TP + FN) of each class, nan for those that are never true."""
        return _ratio(self.counts.diagonal(), self.true)

    @property
    def true(self) -> npt.NDArray[np.int64]:
        """Scored pixels of each class in the masks."""
        return self.counts.sum(1)

    @property
    def predicted(self) -> npt.NDArray[np.int64]:
        """Scored pixels that were said to be of each class."""
        return self.counts.sum(0)

    @property
    def dice(self) -> float:
        """Mean Dice over the classes, background included."""
        return mean_known(self.dice_by_class)

    @property
    def miou(self) -> float:
        """Mean intersection over union over the classes."""
        return mean_known(self.iou_by_class)

    @property
    def accuracy(self) -> float:
        """Share of the scored pixels that are right."""
        return float(self.counts.trace() / self.pixels) if self.pixels else float("nan")

    def summary(self) -> dict[str, float]:
        """`dice`, `miou` and `accuracy`."""
        return {"dice": self.dice, "miou": self.miou, "accuracy": self.accuracy}

    def foreground(self, background: int) -> dict[str, float]:
        """`dice`, `dice_micro` and `miou` without the class ``background``; what it got of the others still counts.

        `dice_micro` sums the counts of the classes before it divides; with the background it would be the accuracy.
        """
        kept = np.arange(len(self.classes)) != background
        hits, sizes = self.counts.diagonal()[kept].sum(), (self.true + self.predicted)[kept].sum()
        micro = 2 * float(hits) / float(sizes) if sizes else float("nan")
        return {
            "dice": mean_known(self.dice_by_class[kept]),
            "dice_micro": micro,
            "miou": mean_known(self.iou_by_class[kept]),
        }

    def per_class(self) -> dict[str, dict[str, float | None]]:
        """`dice`, `iou`, `precision` and `recall` of each class by name; None where one is not defined."""
        scores = {
            "dice": self.dice_by_class,
            "iou": self.iou_by_class,
            "precision": self.precision_by_class,
            "recall": self.recall_by_class,
        }
        return {
            name: {score: or_none(values[k]) for score, values in scores.items()} for k, name in enumerate(self.classes)
        }


def background_of(classes: Sequence[str], said: str | None = None) -> int:
    """The id of the background: the class ``said`` (`data.background`) where it is learnt, else the one that is called
    `background` in letters of any case, else class 0."""
    if said in classes:
        return classes.index(said)
    return next((k for k, name in enumerate(classes) if name.lower() == "background"), 0)


def _ratio(part: npt.NDArray[np.int64], whole: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)


def mean_known(scores: npt.NDArray[np.float64]) -> float:
    """The mean of the scores that are not nan; nan where all are."""
    known = scores[~np.isnan(scores)]
    return float(known.mean()) if known.size else float("nan")


def or_none(score: float) -> float | None:
    """A score as JSON has it: None in place of nan."""
    return None if np.isnan(score) else float(score)
