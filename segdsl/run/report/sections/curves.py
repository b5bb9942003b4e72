"""The learning curves of a run, one chart for each kind of value, and the epochs as a table."""

from __future__ import annotations

import json
from collections.abc import Iterator

from segdsl.run.report.chart import LEFT, RIGHT, Series, figure, style, value_text
from segdsl.run.report.history import History
from segdsl.run.report.markup import Html, joined, table, tag
from segdsl.run.report.run_data import Material
from segdsl.run.report.sections.class_curves import class_curves

MOST_POINTS, LEAST_POINTS, MOST_ROWS = 800, 100, 400
"""Epochs in a chart, in that of many classes, and in the table; of more, some are left out."""
ALL_POINTS = 24_000
"""In the chart of all classes."""
IN_FRONT = ("epoch", "step", "seconds")
"""Columns of the log that every epoch has and that are no curve."""
OF_CLASSES = ("val.dice.", "val.iou.")
"""How the columns of single classes begin."""


def curves(material: Material) -> Html:
    """The charts, a slider that reads them epoch by epoch, and the table."""
    lost = [_lost(material.history.lost)] if material.history.lost else []
    if not material.history.epochs:
        return joined(tag("p", "The run has no finished epoch, so that there are no curves.", class_="missing"), *lost)
    most = max(LEAST_POINTS, min(MOST_POINTS, ALL_POINTS // len(material.classes)))
    history = material.history.thinned(most, material.best)
    best = _place(history, material)
    charts = [figure(title, series, history, best) for title, series in _charts(material)]
    at = best if best is not None else len(history) - 1
    slider = tag("input", type="range", id="epoch", min=0, max=len(history) - 1, value=at, aria_label="epoch")
    shown = tag("output", str(history.epochs[at]), for_="epoch", id="epoch-shown")
    control = tag("p", tag("label", "epoch ", shown, for_="epoch"), slider, class_="slider", hidden=True)
    texts = {"epochs": history.epochs, "start": LEFT, "end": RIGHT}
    grid = tag("div", *charts, class_curves(material.classes, history, best), class_="charts", id="charts",
               data_axis=json.dumps(texts))  # fmt: skip
    return joined(*lost, control, grid, tag("details", tag("summary", "Every epoch as a table"), _table(material)))


def _lost(count: int) -> Html:
    lines = (
        "1 line of metrics.csv is no whole row and is" if count == 1 else f"{count} lines of metrics.csv are no rows,"
    )
    return tag("p", f"{lines} left out." if count == 1 else f"{lines} and are left out.", class_="missing")


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
    if monitor not in ("val.dice", "val.loss", "val.foreground.dice"):
        quality.append(Series(monitor.removeprefix("val."), monitor, style(2)))
    yield "Validation", quality
    yield "Learning rate", _rates(material)


def _rates(material: Material) -> list[Series]:
    """The optimizer's rate, which the log has, and those of its groups: all are scaled alike."""
    word = material.program.train.optimizer
    rate = getattr(word, "lr", None)
    groups: dict[float, list[str]] = {}
    for group in getattr(word, "groups", ()):
        if rate and group.lr is not None:
            groups.setdefault(group.lr / rate, []).extend(group.paths)
    found = [Series("of the rest" if groups else "rate", "lr", style(0))]
    return found + [Series(", ".join(paths), "lr", style(k), f) for k, (f, paths) in enumerate(groups.items(), 1)]


def _table(material: Material) -> Html:
    """All that the log has, but for the classes."""
    history = material.history.thinned(MOST_ROWS, material.best)
    kept = [name for name in history.columns if name not in IN_FRONT and not name.startswith(OF_CLASSES)]
    columns = {name: history.column(name) for name in kept}
    times = dict(zip(material.history.epochs, material.history.seconds(), strict=True))
    rows: list[list[str]] = [
        [
            f"{epoch}{' (best)' if k == _place(history, material) else ''}",
            *(value_text(c[k]) for c in columns.values()),
            f"{times[epoch]:.1f}",
        ]
        for k, epoch in enumerate(history.epochs)
    ]
    left_out = len(material.history) - len(history)
    caption = "Epochs" + (f", without {left_out} of them between the others" if left_out else "")
    return table(["epoch", *columns, "seconds"], rows, caption=caption)
