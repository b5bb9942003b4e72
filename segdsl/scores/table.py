"""Scores as text, the same at the end of a training and of an evaluation: never wider than 80 columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from segdsl.diagnostics.render import cells, clean, slice_columns

WIDTH = 80
COLUMNS = {"precision": "precision", "recall": "recall", "boundary_f1": "boundary", "dice": "dice", "iou": "iou"}
"""Scores by their key, with the head of their column."""
LONGEST = 32
"""Columns of a name in a sentence."""
MAX_MATRIX = 10
"""So many classes fit into the table of confusions."""
Scores = Mapping[str, float | None]


def class_table(per_class: Mapping[str, Scores], means: Mapping[str, Scores]) -> list[str]:
    """Lines with the scores of each class, and of each of the ``means`` below them; `-` where there is none."""
    rows = [(clean(name), scores) for name, scores in (*per_class.items(), *means.items())]
    said = [key for key in COLUMNS if any(key in scores for _, scores in rows)]
    room = WIDTH - sum(_width(key) for key in said)
    width = min(max(width_of(name) for name in ("class", *(name for name, _ in rows))), room)
    lines = [_padded("class", width) + "".join(f"{COLUMNS[key]:>{_width(key)}}" for key in said)]
    for name, scores in rows:
        numbers = [f"{_number(scores[key]) if key in scores else '':>{_width(key)}}" for key in said]
        lines.append((_padded(shortened(name, width), width) + "".join(numbers)).rstrip())
    return lines


def confusion_table(classes: Sequence[str], counts: Sequence[Sequence[int]]) -> list[str]:
    """Lines with the share of each class's pixels that was said to be each class, in percent, below one that says so;
    columns are numbered as rows are. Empty for more than :data:`MAX_MATRIX` classes."""
    if len(classes) > MAX_MATRIX:
        return []
    names = [f"{k} {clean(name)}" for k, name in enumerate(classes)]
    width = min(max(map(width_of, ("true \\ predicted", *names))), WIDTH - 6 * len(classes))
    lines = ["of the pixels of each class (row), % that were predicted as each class (column)"]
    lines.append(_padded("true \\ predicted", width) + "".join(f"{k:>6}" for k in range(len(classes))))
    for name, row in zip(names, counts, strict=True):
        whole = sum(row)
        shares = "".join(f"{100 * n / whole:>6.1f}" if whole else f"{'-':>6}" for n in row)
        lines.append(_padded(shortened(name, width), width) + shares)
    return lines


def shortened(name: str, width: int) -> str:
    """A name cut to ``width`` columns of a terminal."""
    return name if width_of(name) <= width else f"{slice_columns(name, 0, width - 1)}…"


def short_name(name: str) -> str:
    """A name of a class as it stands in a sentence: cleaned, and cut to :data:`LONGEST` columns."""
    return shortened(clean(name), LONGEST)


def _width(key: str) -> int:
    return max(len(COLUMNS[key]), 6) + 2


def width_of(text: str) -> int:
    """Columns of a terminal that a text takes."""
    return sum(map(cells, text))


def _padded(text: str, width: int) -> str:
    return text + " " * (width - width_of(text))


def _number(value: float | None) -> str:
    return "-" if value is None or value != value else f"{value:.4f}"
