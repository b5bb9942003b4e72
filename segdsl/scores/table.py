"""Score tables as text, the same after training and after evaluation; never wider than 80 columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from segdsl.diagnostics.render import cells, clean, slice_columns

WIDTH = 80
COLUMNS = {"precision": "precision", "recall": "recall", "boundary_f1": "boundary", "dice": "dice", "iou": "iou"}
"""Scores by their key, with the heading of their column."""
LONGEST = 32
"""Widest class name in a sentence, in columns."""
MAX_MATRIX = 10
"""Most classes for which the confusion matrix fits in the width."""
Scores = Mapping[str, float | None]


def class_table(per_class: Mapping[str, Scores], means: Mapping[str, Scores]) -> list[str]:
    """Return lines with the scores of each class, followed by the ``means``; `-` where a score is undefined."""
    rows = [(clean(name), scores) for name, scores in (*per_class.items(), *means.items())]
    keys = [key for key in COLUMNS if any(key in scores for _, scores in rows)]
    # Numbers keep their columns; only names are shortened to fit.
    room = WIDTH - sum(_width(key) for key in keys)
    width = min(max(width_of(name) for name in ("class", *(name for name, _ in rows))), room)
    lines = [_padded("class", width) + "".join(f"{COLUMNS[key]:>{_width(key)}}" for key in keys)]
    for name, scores in rows:
        numbers = [f"{_number(scores[key]) if key in scores else '':>{_width(key)}}" for key in keys]
        lines.append((_padded(shortened(name, width), width) + "".join(numbers)).rstrip())
    return lines


def confusion_table(classes: Sequence[str], counts: Sequence[Sequence[int]]) -> list[str]:
    """Return lines with the percentage of each class's pixels that were predicted as each class, under a heading.

    Columns have the numbers of the rows. Empty for more than :data:`MAX_MATRIX_CLASSES` classes.
    """
    if len(classes) > MAX_MATRIX:
        return []
    names = [f"{k} {clean(name)}" for k, name in enumerate(classes)]
    width = min(max(map(width_of, ("true \\ predicted", *names))), WIDTH - 6 * len(classes))
    lines = ["% of the pixels of each class (row) that were predicted as each class (column)"]
    lines.append(_padded("true \\ predicted", width) + "".join(f"{k:>6}" for k in range(len(classes))))
    for name, row in zip(names, counts, strict=True):
        total = sum(row)
        shares = "".join(f"{100 * n / total:>6.1f}" if total else f"{'-':>6}" for n in row)
        lines.append(_padded(shortened(name, width), width) + shares)
    return lines


def shortened(name: str, width: int) -> str:
    """Return a name cut to ``width`` terminal columns."""
    return name if width_of(name) <= width else f"{slice_columns(name, 0, width - 1)}…"


def short_name(name: str) -> str:
    """Return a class name for a sentence: control characters removed, cut to :data:`MAX_NAME_WIDTH` columns."""
    return shortened(clean(name), LONGEST)


def _width(key: str) -> int:
    return max(len(COLUMNS[key]), 6) + 2


def width_of(text: str) -> int:
    """Return the number of terminal columns that a text takes."""
    return sum(map(cells, text))


def _padded(text: str, width: int) -> str:
    return text + " " * (width - width_of(text))


def _number(value: float | None) -> str:
    # `value != value` is true for nan only.
    return "-" if value is None or value != value else f"{value:.4f}"
