"""The section of learning curves: one chart for each kind of value, and the epochs as a table."""

from __future__ import annotations

import json
from collections.abc import Iterator

from segdsl.run.report.chart import AREA, Series, format_value, get_curve_style, make_chart
from segdsl.run.report.history import History
from segdsl.run.report.run_data import RunData
from segdsl.run.report.sections.class_curves import collect_class_curves

MAX_POINTS, MIN_POINTS, MAX_ROWS = 800, 100, 400
"""Maximum number of epochs in a chart, its minimum with many classes, and the maximum in the table."""
# Limits the file size: every point of every class is written out.
CLASS_CHART_POINTS = 24_000
"""Maximum number of points in the chart of all classes."""
INDEX_COLUMNS = ("epoch", "step", "seconds")
"""Columns of the log that count or time the epochs, and are not plotted."""
CLASS_PREFIXES = ("val.dice.", "val.iou.")
"""Prefixes of the columns of single classes."""


def collect_curves(run: RunData) -> dict[str, object]:
    """Return the charts, and the epochs as a table."""
    if not run.history.epochs:
        return {
            "missing": "The run has not finished an epoch, so there are no curves.",
            "bad_lines": run.history.bad_lines,
        }
    limit = max(MIN_POINTS, min(MAX_POINTS, CLASS_CHART_POINTS // len(run.classes)))
    history = run.history.thin_out(limit, run.best_index)
    best = _find_best_index(history, run)
    return {
        "missing": "",
        "bad_lines": run.history.bad_lines,
        "epochs": history.epochs,
        "index": best if best is not None else len(history) - 1,
        "axis": json.dumps({"epochs": history.epochs, "start": AREA.left, "end": AREA.right}),
        "charts": [make_chart(title, series, history, best) for title, series in _list_charts(run)],
        "class_curves": collect_class_curves(run.classes, history, best),
        **_collect_epoch_table(run),
    }


def _find_best_index(history: History, run: RunData) -> int | None:
    best = run.best_index
    return None if best is None else history.epochs.index(run.history.epochs[best])


def _list_charts(run: RunData) -> Iterator[tuple[str, list[Series]]]:
    yield (
        "Loss",
        [Series("training", "train.loss", get_curve_style(0)), Series("validation", "val.loss", get_curve_style(1))],
    )
    quality = [Series("dice", "val.dice", get_curve_style(0))]
    if "val.foreground.dice" in run.history.columns:
        without = f"dice without {run.classes[run.background]}"
        quality.append(Series(without, "val.foreground.dice", get_curve_style(1)))
    monitor = run.program.train.monitor
    # The charts above already contain these three.
    if monitor not in ("val.dice", "val.loss", "val.foreground.dice"):
        quality.append(Series(monitor.removeprefix("val."), monitor, get_curve_style(2)))
    yield "Validation", quality
    yield "Learning rate", _list_rate_series(run)


def _list_rate_series(run: RunData) -> list[Series]:
    """Return the optimizer's learning rate and those of its parameter groups."""
    # The log has the optimizer's rate only. Schedules scale all groups by the same factor, so theirs follow from it.
    optimizer = run.program.train.optimizer
    rate = getattr(optimizer, "lr", None)
    groups: dict[float, list[str]] = {}
    for group in getattr(optimizer, "groups", ()):
        if rate and group.lr is not None:
            groups.setdefault(group.lr / rate, []).extend(group.paths)
    first = [Series("all others" if groups else "rate", "lr", get_curve_style(0))]
    return first + [
        Series(", ".join(paths), "lr", get_curve_style(k), f) for k, (f, paths) in enumerate(groups.items(), 1)
    ]


def _collect_epoch_table(run: RunData) -> dict[str, object]:
    """Return the log as a table, without the columns of single classes."""
    history = run.history.thin_out(MAX_ROWS, run.best_index)
    names = [name for name in history.columns if name not in INDEX_COLUMNS and not name.startswith(CLASS_PREFIXES)]
    columns = {name: history.get_column(name) for name in names}
    # From the complete log: in the thinned one, differences of times would span several epochs.
    times = dict(zip(run.history.epochs, run.history.compute_epoch_seconds(), strict=True))
    best = _find_best_index(history, run)
    rows = [
        [
            f"{epoch} (best)" if k == best else str(epoch),
            *(format_value(c[k]) for c in columns.values()),
            f"{times[epoch]:.1f}",
        ]
        for k, epoch in enumerate(history.epochs)
    ]
    return {"header": ["epoch", *columns, "seconds"], "rows": rows, "omitted": len(run.history) - len(history)}
