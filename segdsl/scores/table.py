"""Score tables as text, the same after training and after evaluation; never wider than 80 columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from segdsl.text.columns import sanitize_text, truncate_end
from segdsl.text.table import render_table

COLUMN_HEADINGS = {
    "precision": "precision",
    "recall": "recall",
    "boundary_f1": "boundary",
    "dice": "dice",
    "iou": "iou",
}
"""Scores by their key, with the heading of their column."""
MAX_NAME_WIDTH = 32
"""Widest class name in a sentence, in columns."""
MAX_MATRIX_CLASSES = 10
"""Most classes for which the confusion matrix fits in the width."""
Scores = Mapping[str, float | None]


def render_class_table(per_class: Mapping[str, Scores], means: Mapping[str, Scores]) -> list[str]:
    """Return lines with the scores of each class, followed by the ``means``; `-` where a score is undefined."""
    rows = [(name, scores) for name, scores in (*per_class.items(), *means.items())]
    keys = [key for key in COLUMN_HEADINGS if any(key in scores for _, scores in rows)]
    headings = ["class", *(COLUMN_HEADINGS[key] for key in keys)]
    return render_table(
        headings,
        (
            [sanitize_text(name), *(_format_score(scores[key]) if key in scores else "" for key in keys)]
            for name, scores in rows
        ),
    )


def render_confusion_table(classes: Sequence[str], counts: Sequence[Sequence[int]]) -> list[str]:
    """Return lines with the percentage of each class's pixels that were predicted as each class, under a heading.

    Columns have the numbers of the rows. Empty for more than :data:`MAX_MATRIX_CLASSES` classes.
    """
    if len(classes) > MAX_MATRIX_CLASSES:
        return []
    rows = []
    for k, (name, row) in enumerate(zip(classes, counts, strict=True)):
        total = sum(row)
        rows.append([f"{k} {sanitize_text(name)}", *(f"{100 * n / total:.1f}" if total else "-" for n in row)])
    title = "% of the pixels of each class (row) that were predicted as each class (column)"
    return [title, *render_table(["true \\ predicted", *map(str, range(len(classes)))], rows)]


def shorten_class_name(name: str) -> str:
    """Return a class name for a sentence: control characters removed, cut to :data:`MAX_NAME_WIDTH` columns."""
    return truncate_end(sanitize_text(name), MAX_NAME_WIDTH)


def _format_score(value: float | None) -> str:
    # `value != value` is true for nan only.
    return "-" if value is None or value != value else f"{value:.4f}"
