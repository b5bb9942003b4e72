"""The section of learning curves: one chart for each kind of value, and the epochs as a table."""

from __future__ import annotations

import json
from collections.abc import Iterator

from segdsl.run.report.chart import LEFT, RIGHT, Series, figure, style, value_text
from segdsl.run.report.history import History
from segdsl.run.report.markup import Html, joined, table, tag
from segdsl.run.report.run_data import Material
from segdsl.run.report.sections.class_curves import class_curves

MOST_POINTS, LEAST_POINTS, MOST_ROWS = 800, 100, 400
"""Maximum number of epochs in a chart, its minimum with many classes, and the maximum in the table."""
# Limits the file size: every point of every class is written out.
ALL_POINTS = 24_000
"""Maximum number of points in the chart of all classes."""
IN_FRONT = ("epoch", "step", "seconds")
"""Columns of the log that count or time the epochs, and are not plotted."""
OF_CLASSES = ("val.dice.", "val.iou.")
"""Prefixes of the columns of single classes."""


def curves(material: Material) -> Html:
    """Render the charts, a slider to read them epoch by epoch, and the table of epochs."""
    warnings = [_lost(material.history.lost)] if material.history.lost else []
    if not material.history.epochs:
        message = "The run has not finished an epoch, so there are no curves."
        return joined(tag("p", message, class_="missing"), *warnings)
    limit = max(LEAST_POINTS, min(MOST_POINTS, ALL_POINTS // len(material.classes)))
    history = material.history.thinned(limit, material.best)
    best = _place(history, material)
    charts = [figure(title, series, history, best) for title, series in _charts(material)]
    index = best if best is not None else len(history) - 1
    slider = tag("input", type="range", id="epoch", min=0, max=len(history) - 1, value=index, aria_label="epoch")
    epoch = tag("output", str(history.epochs[index]), for_="epoch", id="epoch-shown")
    # Hidden until the script, without which it has no effect, shows it.
    control = tag("p", tag("label", "epoch ", epoch, for_="epoch"), slider, class_="slider", hidden=True)
    texts = {"epochs": history.epochs, "start": LEFT, "end": RIGHT}
    grid = tag("div", *charts, class_curves(material.classes, history, best), class_="charts", id="charts",
               data_axis=json.dumps(texts))  # fmt: skip
    return joined(*warnings, control, grid, tag("details", tag("summary", "Epochs as a table"), _table(material)))


def _lost(count: int) -> Html:
    lines = "1 line of metrics.csv is" if count == 1 else f"{count} lines of metrics.csv are"
    return tag("p", f"{lines} not valid and ignored.", class_="missing")


def _place(history: History, material: Material) -> int | None:
    best = material.best
    return None if best is None else history.epochs.index(material.history.epochs[best])


def _charts(material: Material) -> Iterator[tuple[str, list[Series]]]:
    yield "Loss", [Series("training", "train.loss", style(0)), Series("validation", "val.loss", style(1))]
    quality = [Series("dice", "val.dice", style(0))]
    if "val.foreground.dice" in material.history.columns:
        without = f"dice without {material.classes[material.background]}"
        quality.append(Series(without, "val.foreground.dice", style(1)))
    monitor = material.program.train.monitor
    # The charts above already contain these three.
    if monitor not in ("val.dice", "val.loss", "val.foreground.dice"):
        quality.append(Series(monitor.removeprefix("val."), monitor, style(2)))
    yield "Validation", quality
    yield "Learning rate", _rates(material)


def _rates(material: Material) -> list[Series]:
    """Return the optimizer's learning rate and those of its parameter groups."""
    # The log has the optimizer's rate only. Schedules scale all groups by the same factor, so theirs follow from it.
    optimizer = material.program.train.optimizer
    rate = getattr(optimizer, "lr", None)
    groups: dict[float, list[str]] = {}
    for group in getattr(optimizer, "groups", ()):
        if rate and group.lr is not None:
            groups.setdefault(group.lr / rate, []).extend(group.paths)
    first = [Series("all others" if groups else "rate", "lr", style(0))]
    return first + [Series(", ".join(paths), "lr", style(k), f) for k, (f, paths) in enumerate(groups.items(), 1)]


def _table(material: Material) -> Html:
    """Render the log as a table, without the columns of single classes."""
    history = material.history.thinned(MOST_ROWS, material.best)
    names = [name for name in history.columns if name not in IN_FRONT and not name.startswith(OF_CLASSES)]
    columns = {name: history.column(name) for name in names}
    # From the complete log: in the thinned one, differences of times would span several epochs.
    times = dict(zip(material.history.epochs, material.history.seconds(), strict=True))
    rows: list[list[str]] = [
        [
            f"{epoch}{' (best)' if k == _place(history, material) else ''}",
            *(value_text(c[k]) for c in columns.values()),
            f"{times[epoch]:.1f}",
        ]
        for k, epoch in enumerate(history.epochs)
    ]
    omitted = len(material.history) - len(history)
    caption = "Epochs" + (f" ({omitted} omitted in between)" if omitted else "")
    return table(["epoch", *columns, "seconds"], rows, caption=caption)
