"""The learning curves of a run as SVG, one chart for each kind of value, and the epochs as a table."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from segdsl.run.report.history import History
from segdsl.run.report.markup import UNKNOWN, Html, joined, table, tag
from segdsl.run.report.material import Material

MOST_POINTS, MOST_ROWS = 800, 400
"""Epochs in a chart, and in the table; of more, some are left out."""
WIDTH, HEIGHT = 400, 238
LEFT, RIGHT, TOP, BOTTOM = 52, 390, 18, 202
"""The plane of a chart within it, in its own units: about a pixel each on a phone."""
TICKS = 5
IN_FRONT = ("epoch", "step", "seconds")
"""Columns of the log that every epoch has and that are no curve."""
FEW = 40
"""So many epochs have a dot each."""


@dataclass(frozen=True, slots=True)
class Series:
    """A curve: its name in the legend, its column in the log, and its style in the stylesheet."""

    name: str
    column: str
    style: str


def curves(material: Material) -> Html:
    """The charts, a slider that reads them epoch by epoch, and the table."""
    if not material.history.epochs:
        return tag("p", "The run has no finished epoch, so that there are no curves.", class_="missing")
    history = material.history.thinned(MOST_POINTS, material.best)
    best = _place(history, material)
    charts = [_chart(title, series, history, best) for title, series in _charts(material.program.train.monitor)]
    at = best if best is not None else len(history) - 1
    slider = tag("input", type="range", id="epoch", min=0, max=len(history) - 1, value=at, aria_label="epoch")
    shown = tag("output", str(history.epochs[at]), for_="epoch", id="epoch-shown")
    control = tag("p", tag("label", "epoch ", shown, for_="epoch"), slider, class_="slider", hidden=True)
    texts = {"epochs": history.epochs, "start": LEFT, "end": RIGHT}
    grid = tag("div", *charts, class_="charts", id="charts", data_axis=json.dumps(texts))
    return joined(control, grid, tag("details", tag("summary", "Every epoch as a table"), _table(material)))


def _place(history: History, material: Material) -> int | None:
    best = material.best
    return None if best is None else history.epochs.index(material.history.epochs[best])


def _charts(monitor: str) -> Iterator[tuple[str, list[Series]]]:
    yield "Loss", [Series("training", "train.loss", "a"), Series("validation", "val.loss", "b")]
    quality = [Series("dice", "val.dice", "a")]
    if monitor not in ("val.dice", "val.loss"):
        quality.append(Series(monitor.removeprefix("val."), monitor, "b"))
    yield "Validation", quality
    yield "Learning rate", [Series("rate", "lr", "a")]


def _chart(title: str, series: list[Series], history: History, best: int | None) -> Html:
    columns = [history.column(one.column) for one in series]
    known = [value for column in columns for value in column if math.isfinite(value)]
    marks = ticks(min(known, default=0.0), max(known, default=1.0))
    plane = _Plane(len(history), marks[0], marks[-1])
    drawn = [part for one, column in zip(series, columns, strict=True) for part in _curve(one, column, plane, best)]
    svg = tag(
        "svg",
        *_axes(plane, marks, history),
        *_best(plane, history, best),
        *drawn,
        tag("line", class_="cursor", x1=LEFT, x2=LEFT, y1=TOP, y2=BOTTOM),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=_described(title, series, columns, history, best),
    )
    at = best if best is not None else len(history) - 1
    legend = [_entry(one, column, at) for one, column in zip(series, columns, strict=True)]
    return tag("figure", tag("figcaption", tag("h3", title), tag("ul", *legend, class_="legend")), svg, class_="chart")


@dataclass(frozen=True, slots=True)
class _Plane:
    """Places of values: ``count`` epochs across, from ``low`` to ``high`` upwards."""

    count: int
    low: float
    high: float

    def x(self, place: int) -> float:
        return LEFT + (RIGHT - LEFT) * (place / (self.count - 1) if self.count > 1 else 0.5)

    def y(self, value: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * (value - self.low) / (self.high - self.low)


def ticks(low: float, high: float) -> list[float]:
    """About :data:`TICKS` round numbers from below ``low`` to above ``high``; 0 is one of them where it is near."""
    if low > 0 and low < 0.6 * high:
        low = 0.0
    if high - low <= 1e-12 * max(abs(high), abs(low)):
        low, high = (0.0, high) if high > 0 else (low - 1, low + 1)
    rough = (high - low) / (TICKS - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * f for f in (1, 2, 2.5, 5, 10) if power * f >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [step * k for k in range(first, last + 1)]


def _axes(plane: _Plane, marks: Sequence[float], history: History) -> Iterator[Html]:
    for mark in marks:
        y = round(plane.y(mark), 1)
        yield tag("line", class_="grid", x1=LEFT, x2=RIGHT, y1=y, y2=y)
        yield tag("text", f"{mark:.6g}", class_="tick end", x=LEFT - 6, y=y + 4)
    for place in _spread(len(history)):
        yield tag("text", str(history.epochs[place]), class_="tick middle", x=round(plane.x(place), 1), y=BOTTOM + 16)
    yield tag("text", "epoch", class_="tick end", x=RIGHT, y=HEIGHT - 4)


def _spread(count: int) -> list[int]:
    """Some places of epochs at even distances, the first and the last among them."""
    places = list(range(0, count, max(1, math.ceil((count - 1) / TICKS))))
    return places if places[-1] == count - 1 else [*places[:-1], count - 1]


def _best(plane: _Plane, history: History, best: int | None) -> Iterator[Html]:
    if best is None:
        return
    x = round(plane.x(best), 1)
    right = x > (LEFT + RIGHT) / 2
    yield tag("line", class_="best", x1=x, x2=x, y1=TOP - 4, y2=BOTTOM)
    place = {"class_": f"tick {'end' if right else 'start'}", "x": x - 5 if right else x + 5, "y": TOP - 6}
    yield tag("text", f"best: epoch {history.epochs[best]}", **place)


def _curve(one: Series, column: Sequence[float], plane: _Plane, best: int | None) -> Iterator[Html]:
    points = [(plane.x(k), plane.y(v)) if math.isfinite(v) else None for k, v in enumerate(column)]
    words, joins = [], False
    for point in points:
        words += [f"{'L' if joins else 'M'}{point[0]:.1f} {point[1]:.1f}"] if point else []
        joins = point is not None
    yield tag("path", class_=f"curve {one.style}", d=" ".join(words))
    for k, point in enumerate(points):
        if point and (len(points) <= FEW or k == best):
            radius = 4 if k == best else 2
            yield tag("circle", class_=f"dot {one.style}", cx=f"{point[0]:.1f}", cy=f"{point[1]:.1f}", r=radius)


def _entry(one: Series, column: Sequence[float], at: int) -> Html:
    sample = tag("svg", tag("line", class_=f"curve {one.style}", x1=0, x2=18, y1=5, y2=5), viewBox="0 0 18 10")
    texts = [_value(value) for value in column]
    shown = tag("span", texts[at], class_="number", data_values=json.dumps(texts))
    return tag("li", sample, f"{one.name} ", shown)


def _described(title: str, series: list[Series], columns: list[list[float]], history: History, best: int | None) -> str:
    ends = f"from epoch {history.epochs[0]} to {history.epochs[-1]}"
    texts = [f"{s.name} from {_value(c[0])} to {_value(c[-1])}" for s, c in zip(series, columns, strict=True)]
    tail = f"; the best epoch is {history.epochs[best]}" if best is not None else ""
    return f"{title} {ends}: {', '.join(texts)}{tail}"


def _value(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else UNKNOWN


def _table(material: Material) -> Html:
    """All that the log has, but for the classes."""
    history = material.history.thinned(MOST_ROWS, material.best)
    kept = [name for name in history.columns if name not in IN_FRONT and not name.startswith("val.dice.")]
    columns = {name: history.column(name) for name in kept}
    times = dict(zip(material.history.epochs, material.history.seconds(), strict=True))
    rows: list[list[str]] = [
        [
            f"{epoch}{' (best)' if k == _place(history, material) else ''}",
            *(_value(c[k]) for c in columns.values()),
            f"{times[epoch]:.1f}",
        ]
        for k, epoch in enumerate(history.epochs)
    ]
    left_out = len(material.history) - len(history)
    caption = "Epochs" + (f", without {left_out} of them between the others" if left_out else "")
    return table(["epoch", *columns, "seconds"], rows, caption=caption)
