"""The sections on classes: a table of scores, notes on missing classes, and the confusion matrix."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from segdsl.data.pictures.palette import choose_colors, format_color
from segdsl.pages.page import UNKNOWN, format_percent
from segdsl.run.console.missing_classes import find_absent_classes, find_unpredicted_classes, format_absence_notes
from segdsl.run.report.run_data import RunData
from segdsl.scores.confusion import Confusion, is_background_known

DENSE_MATRIX_CLASSES = 24
"""With more classes than this, the matrix is rendered small, in whole percent."""
SCORE_COLUMNS = ("dice", "iou", "precision", "recall")
"""Columns of the table of classes; unknown ones are omitted."""
SHADES = 10
"""Number of shades of a cell."""
MAX_CONFUSED_PAIRS = 12
"""Number of most confused pairs that are listed."""


class ClassRow(NamedTuple):
    """A row of the table of classes; ``color`` is None if the dataset is missing."""

    name: str
    color: str | None
    cells: list[str]


class ConfusedPair(NamedTuple):
    """Pixels of one class that were predicted as another, and their share of the class."""

    truth: str
    prediction: str
    share: float
    pixels: int


def collect_class_table(run: RunData) -> dict[str, object]:
    """Return the scores of every class, and its share of the training images."""
    scores = _collect_scores(run)
    kinds = [kind for kind in SCORE_COLUMNS if any(kind in known for known in scores.values())]
    shares = _list_training_shares(run)
    colors = map(format_color, choose_colors(run.index.labels)) if run.index is not None else [None] * len(run.classes)
    rows = [
        ClassRow(
            name,
            color,
            [*(_format_score(scores[name].get(kind)) for kind in kinds), *shares[k], _describe_class_issue(run, k)],
        )
        for k, (name, color) in enumerate(zip(run.classes, colors, strict=True))
    ]
    ranking = run.ranking
    return {
        "missing": f"Scores are those of the best epoch in the log: {run.missing}." if ranking is None else "",
        "means": [] if ranking is None else _list_means(run, ranking.confusion),
        "notes": [] if ranking is None else _list_notes(ranking.confusion),
        # Users compare these scores with those of `segdsl eval`, which are others.
        "command": f"segdsl eval {shlex.quote(str(run.folder.root))}",
        "input_size": run.program.data.input_size,
        "header": ["class", *kinds, *(["training pixels", "training images"] if run.stats else []), ""],
        "classes": rows,
    }


def _list_training_shares(run: RunData) -> list[list[str]]:
    """Return the share of the training pixels and the number of training images of each class, if known."""
    stats = run.stats.get(run.program.data.train.subset)
    if stats is None:
        return [[] for _ in run.classes]
    counts = [stats.get_class(k) for k in range(len(run.classes))]
    return [[format_percent(count.pixels / stats.pixels), f"{count.images:,}"] for count in counts]


def _list_means(run: RunData, confusion: Confusion) -> list[tuple[str, str]]:
    """Return the means over the classes, with and without the background."""
    whole, front = confusion.summarize_scores(), confusion.compute_foreground_scores(run.background)
    without = f"without {run.classes[run.background]}"
    over_all = [("mean dice", whole["dice"]), ("mean IoU", whole["miou"])]
    over_front = [(f"mean dice {without}", front["dice"]), (f"mean IoU {without}", front["miou"])]
    is_known = is_background_known(run.classes, run.program.data.background)
    means = [*over_front, *over_all] if is_known else [*over_all, *over_front]
    return [(name, _format_score(value)) for name, value in (*means, ("pixel accuracy", whole["accuracy"]))]


def _list_notes(confusion: Confusion) -> list[str]:
    return [f"{text[0].upper()}{text[1:]}." for text in format_absence_notes(confusion)]


def _collect_scores(run: RunData) -> dict[str, Mapping[str, float | None]]:
    """Return the scores by class; if the model could not be evaluated, those of the best epoch in the log."""
    if run.ranking is not None:
        return dict(run.ranking.confusion.collect_class_scores())
    best, history = run.best_index, run.history
    kinds = [kind for kind in SCORE_COLUMNS if f"val.{kind}.{run.classes[0]}" in history.columns]
    if best is None:
        return {name: {} for name in run.classes}
    return {name: {kind: history.get_column(f"val.{kind}.{name}")[best] for kind in kinds} for name in run.classes}


def _describe_class_issue(run: RunData, k: int) -> str:
    if run.ranking is None:
        return ""
    if k in find_absent_classes(run.ranking.confusion):
        return "not in the validation subset"
    return "never predicted" if k in find_unpredicted_classes(run.ranking.confusion) else ""


def collect_confusion(run: RunData) -> dict[str, object]:
    """Return the confusion matrix, in shares of the true class, and the most confused pairs."""
    if run.ranking is None:
        return {"missing": f"No confusion matrix: {run.missing}."}
    confusion = run.ranking.confusion
    is_dense = len(confusion.classes) > DENSE_MATRIX_CLASSES
    shares, totals = _compute_shares(confusion).tolist(), confusion.counts.sum(1).tolist()
    rows = [
        (name, _list_cells(shares[k], k, 0 if is_dense else 1) if totals[k] else _list_empty_cells(len(shares), k))
        for k, name in enumerate(confusion.classes)
    ]
    pairs = list_confused_pairs(confusion)
    return {"missing": "", "classes": confusion.classes, "rows": rows, "is_dense": is_dense, "pairs": pairs}


def _compute_shares(confusion: Confusion) -> np.ndarray:
    """Return the share of pixels of each true class (rows) by predicted class, float64 (classes, classes)."""
    return confusion.counts / np.maximum(confusion.counts.sum(1, keepdims=True), 1)


def _list_cells(shares: list[float], row: int, digits: int) -> list[tuple[str, str]]:
    """Return style and text of the cells of a row; zeros are empty."""
    texts = [f"{100 * share:.{digits}f}" for share in shares]
    styles = [f"{'d' if column == row else 'e'}{math.ceil(share * SHADES)}" for column, share in enumerate(shares)]
    return [(style, text) if float(text) else ("", "") for style, text in zip(styles, texts, strict=True)]


def _list_empty_cells(count: int, row: int) -> list[tuple[str, str]]:
    """Return the cells of a class without pixels: a dash on the diagonal."""
    return [("", UNKNOWN if column == row else "") for column in range(count)]


def list_confused_pairs(confusion: Confusion) -> list[ConfusedPair]:
    """Return the largest shares off the diagonal, largest first."""
    shares = _compute_shares(confusion)
    wrong = np.where(np.eye(len(shares), dtype=bool), 0.0, shares)
    order = np.argsort(-wrong, axis=None, kind="stable")[:MAX_CONFUSED_PAIRS]
    places = [divmod(int(index), len(shares)) for index in order if wrong.flat[index] > 0]
    names, counts = confusion.classes, confusion.counts
    return [ConfusedPair(names[a], names[b], float(shares[a, b]), int(counts[a, b])) for a, b in places]


def _format_score(value: float | None) -> str:
    return UNKNOWN if value is None or math.isnan(value) else f"{value:.4f}"
