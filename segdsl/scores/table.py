"""Score tables as text, the same after training and after evaluation; never wider than 80 columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from segdsl.text.columns import measure_char, sanitize_text, slice_columns

TABLE_WIDTH = 80
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
    rows = [(sanitize_text(name), scores) for name, scores in (*per_class.items(), *means.items())]
    keys = [key for key in COLUMN_HEADINGS if any(key in scores for _, scores in rows)]
    # Numbers keep their columns; only names are shortened to fit.
    room = TABLE_WIDTH - sum(_get_column_width(key) for key in keys)
    width = min(max(measure_width(name) for name in ("class", *(name for name, _ in rows))), room)
    lines = [_pad_text("class", width) + "".join(f"{COLUMN_HEADINGS[key]:>{_get_column_width(key)}}" for key in keys)]
    for name, scores in rows:
        numbers = [f"{_format_score(scores[key]) if key in scores else '':>{_get_column_width(key)}}" for key in keys]
        lines.append((_pad_text(shorten_name(name, width), width) + "".join(numbers)).rstrip())
    return lines


def render_confusion_table(classes: Sequence[str], counts: Sequence[Sequence[int]]) -> list[str]:
    """Return lines with the percentage of each class's pixels that were predicted as each class, under a heading.

    Columns have the numbers of the rows. Empty for more than :data:`MAX_MATRIX_CLASSES` classes.
    """
    if len(classes) > MAX_MATRIX_CLASSES:
        return []
    names = [f"{k} {sanitize_text(name)}" for k, name in enumerate(classes)]
    width = min(max(map(measure_width, ("true \\ predicted", *names))), TABLE_WIDTH - 6 * len(classes))
    lines = ["% of the pixels of each class (row) that were predicted as each class (column)"]
    lines.append(_pad_text("true \\ predicted", width) + "".join(f"{k:>6}" for k in range(len(classes))))
    for name, row in zip(names, counts, strict=True):
        total = sum(row)
        shares = "".join(f"{100 * n / total:>6.1f}" if total else f"{'-':>6}" for n in row)
        lines.append(_pad_text(shorten_name(name, width), width) + shares)
    return lines


def shorten_name(name: str, width: int) -> str:
    """Return a name cut to ``width`` terminal columns."""
    return name if measure_width(name) <= width else f"{slice_columns(name, 0, width - 1)}…"


def shorten_class_name(name: str) -> str:
    """Return a class name for a sentence: control characters removed, cut to :data:`MAX_NAME_WIDTH` columns."""
    return shorten_name(sanitize_text(name), MAX_NAME_WIDTH)


def _get_column_width(key: str) -> int:
    return max(len(COLUMN_HEADINGS[key]), 6) + 2


def measure_width(text: str) -> int:
    """Return the number of terminal columns that a text takes."""
    return sum(map(measure_char, text))


def _pad_text(text: str, width: int) -> str:
    return text + " " * (width - measure_width(text))


def _format_score(value: float | None) -> str:
    # `value != value` is true for nan only.
    return "-" if value is None or value != value else f"{value:.4f}"
