"""Segmentation scores, all computed from one confusion matrix summed over a subset."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from segdsl.diagnostics import fail


class Confusion:
    """Pixel counts by true class (rows) and predicted class (columns), without ignored pixels.

    A class that occurs neither in the masks nor in the predictions has no score and is left out of the means; one that
    is predicted but never true scores 0. Without any scored pixel the means are nan.
    """

    def __init__(self, classes: Sequence[str], ignore: int) -> None:
        self.classes = tuple(classes)
        self.ignore = ignore
        self.counts = np.zeros((len(self.classes), len(self.classes)), dtype=np.int64)

    def update(self, prediction: npt.NDArray[np.integer], target: npt.NDArray[np.integer]) -> None:
        """Add predicted and true class ids, two arrays of the same shape.

        Raises SegError (`mask-value-out-of-range`) for a target that is neither a class id nor the ignore value.
        """
        count = len(self.classes)
        valid = target != self.ignore
        # Masks are uint8: multiplied by the number of classes they would overflow.
        truth = target[valid].astype(np.int64)
        if truth.size and truth.max() >= count:
            raise fail(
                "mask-value-out-of-range",
                f"a mask contains the value {truth.max()}, but there are only {count} classes (0 to {count - 1})",
                "run `segdsl data check` on the dataset to find the file",
            )
        pairs = truth * count + prediction[valid]
        self.counts += np.bincount(pairs, minlength=count * count).reshape(count, count)

    def add_counts(self, other: Confusion) -> None:
        """Add the counts of another confusion over the same classes."""
        self.counts += other.counts

    @property
    def pixel_count(self) -> int:
        """Number of scored pixels."""
        return int(self.counts.sum())

    @property
    def dice_by_class(self) -> npt.NDArray[np.float64]:
        """2 TP / (2 TP + FP + FN) of each class, nan for classes that are neither true nor predicted."""
        hits, sizes = self.counts.diagonal(), self.counts.sum(0) + self.counts.sum(1)
        return _divide_counts(2 * hits, sizes)

    @property
    def iou_by_class(self) -> npt.NDArray[np.float64]:
        """TP / (TP + FP + FN) of each class, nan for classes that are neither true nor predicted."""
        hits = self.counts.diagonal()
        return _divide_counts(hits, self.counts.sum(0) + self.counts.sum(1) - hits)

    @property
    def precision_by_class(self) -> npt.NDArray[np.float64]:
        """TP / (TP + FP) of each class, nan for classes that are never predicted."""
        return _divide_counts(self.counts.diagonal(), self.prediction_pixels)

    @property
    def recall_by_class(self) -> npt.NDArray[np.float64]:
        """TP / (TP + FN) of each class, nan for classes that are never true."""
        return _divide_counts(self.counts.diagonal(), self.target_pixels)

    @property
    def target_pixels(self) -> npt.NDArray[np.int64]:
        """Scored pixels of each class in the masks."""
        return self.counts.sum(1)

    @property
    def prediction_pixels(self) -> npt.NDArray[np.int64]:
        """Scored pixels of each class in the predictions."""
        return self.counts.sum(0)

    @property
    def dice(self) -> float:
        """Mean Dice over the classes, background included."""
        return average_known(self.dice_by_class)

    @property
    def miou(self) -> float:
        """Mean intersection over union over the classes."""
        return average_known(self.iou_by_class)

    @property
    def accuracy(self) -> float:
        """Share of the scored pixels that are correct."""
        return float(self.counts.trace() / self.pixel_count) if self.pixel_count else float("nan")

    def summarize_scores(self) -> dict[str, float]:
        """Return `dice`, `miou` and `accuracy`."""
        return {"dice": self.dice, "miou": self.miou, "accuracy": self.accuracy}

    def compute_foreground_scores(self, background: int) -> dict[str, float]:
        """Return `dice`, `dice_micro` and `miou` without the class ``background``.

        Pixels of other classes that were predicted as background still count as misses.
        """
        # `dice_micro` sums the counts of the classes before it divides; with the background it would be the accuracy.
        chosen = np.arange(len(self.classes)) != background
        hits, sizes = self.counts.diagonal()[chosen].sum(), (self.target_pixels + self.prediction_pixels)[chosen].sum()
        micro = 2 * float(hits) / float(sizes) if sizes else float("nan")
        return {
            "dice": average_known(self.dice_by_class[chosen]),
            "dice_micro": micro,
            "miou": average_known(self.iou_by_class[chosen]),
        }

    def find_sole_class(self) -> int | None:
        """Return the class that is predicted most if no other one was found; None if the masks have fewer than two.

        A class is found if a pixel of it is predicted as it.
        """
        if np.count_nonzero(self.target_pixels) < 2 or np.count_nonzero(self.counts.diagonal()) > 1:
            return None
        return int(self.prediction_pixels.argmax())

    def collect_class_scores(self) -> dict[str, dict[str, float | None]]:
        """Return `dice`, `iou`, `precision` and `recall` of each class by name; None where a score is undefined."""
        scores = {
            "dice": self.dice_by_class,
            "iou": self.iou_by_class,
            "precision": self.precision_by_class,
            "recall": self.recall_by_class,
        }
        return {
            name: {score: nan_to_none(values[k]) for score, values in scores.items()}
            for k, name in enumerate(self.classes)
        }


def find_background(classes: Sequence[str], background_name: str | None = None) -> int:
    """Return the id of the background class.

    That is ``background_name`` (`data.background`) if it is a class, else the class called `background` in any case of
    letters, else class 0.
    """
    if background_name in classes:
        return classes.index(background_name)
    return next((k for k, name in enumerate(classes) if name.lower() == "background"), 0)


def is_background_known(classes: Sequence[str], background_name: str | None = None) -> bool:
    """Return whether :func:`find_background` does not have to guess."""
    return classes[find_background(classes, background_name)].lower() == "background" or background_name in classes


def _divide_counts(part: npt.NDArray[np.int64], whole: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)


def average_known(scores: npt.NDArray[np.float64]) -> float:
    """Return the mean of the scores that are not nan; nan if all are."""
    known = scores[~np.isnan(scores)]
    return float(known.mean()) if known.size else float("nan")


def nan_to_none(score: float) -> float | None:
    """Return a score for JSON, which has no nan: None in its place."""
    return None if np.isnan(score) else float(score)
