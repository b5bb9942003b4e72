"""The chart of the Dice of every class over the epochs: all as thin lines, and those the reader selects in color."""

from __future__ import annotations

import math
from collections.abc import Sequence

from segdsl.run.report.chart import (
    FAINT_STYLE,
    STYLE_COUNT,
    Series,
    format_value,
    get_curve_style,
    make_legend_entry,
    make_plot,
)
from segdsl.run.report.history import History

TITLE = "Dice by class"


def collect_class_curves(classes: Sequence[str], history: History, best_index: int | None) -> dict[str, object]:
    """Return the chart, and the classes by their Dice at the best epoch, lowest first.

    The lowest ones are in color; the script lets the reader select others.
    """
    index = best_index if best_index is not None else len(history) - 1
    order = sorted((_make_sort_key(history.get_column(f"val.dice.{name}")[index]), name) for name in classes)
    series = [
        Series(name, f"val.dice.{name}", get_curve_style(k) if k < STYLE_COUNT else FAINT_STYLE)
        for k, (_, name) in enumerate(order)
    ]
    return {
        "title": TITLE,
        "styles": STYLE_COUNT,
        "epoch": history.epochs[index],
        "is_selectable": len(series) > STYLE_COUNT,
        "choices": [(make_legend_entry(one, history, index), one.style != FAINT_STYLE) for one in series],
        # Reversed: what is drawn last is on top, and the colored curves come first in the list.
        "plot": make_plot(TITLE, series[::-1], history, best_index, _describe_extremes(series, history, index)),
    }


def _make_sort_key(value: float) -> float:
    """Return a sort key that puts classes without a score last."""
    return math.inf if math.isnan(value) else value


def _describe_extremes(series: Sequence[Series], history: History, index: int) -> str:
    ends = {one.name: format_value(one.read_values(history)[index]) for one in (series[0], series[-1])}
    return ", ".join(f"{name} {value}" for name, value in ends.items()) + f" at epoch {history.epochs[index]}"
