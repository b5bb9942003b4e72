"""Curves over the epochs as SVG: axes, lines, the mark of the best epoch, and the legend."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from segdsl.run.report.history import History
from segdsl.run.report.markup import UNKNOWN, Html, named, tag

WIDTH, HEIGHT = 400, 238
LEFT, RIGHT, TOP, BOTTOM = 52, 390, 18, 202
"""The plane of a chart within it, in its own units: about a pixel each on a phone."""
TICKS = 5
STYLES = 8
"""Curves of one chart that can be told apart: `c1` to `c8` of the stylesheet."""
FAINT = "faint"
"""The style of the others."""
MOST_DOTS = 400
"""So many points in a chart have a dot each."""


@dataclass(frozen=True, slots=True)
class Series:
    """A curve: its name in the legend, its column in the log, its style in the stylesheet, and the ``factor`` that the
    column is multiplied by."""

    name: str
    column: str
    style: str
    factor: float = 1.0

    def values(self, history: History) -> list[float]:
        """A value for each epoch, nan where there is none."""
        return [value * self.factor for value in history.column(self.column)]


def style(number: int) -> str:
    """The style of a curve by its number, from 0."""
    return f"c{number % STYLES + 1}"


def figure(title: str, series: Sequence[Series], history: History, best: int | None) -> Html:
    """A chart with its title and legend; ``best`` is the place of the best epoch."""
    at = best if best is not None else len(history) - 1
    legend = tag("ul", *(tag("li", *entry(one, history, at)) for one in series), class_="legend")
    head = tag("figcaption", tag("h3", title), legend)
    return tag("figure", head, plot(title, series, history, best), class_="chart")


def plot(title: str, series: Sequence[Series], history: History, best: int | None, about: str = "") -> Html:
    """The drawing; ``about`` is what it shows in words, by default the first and last value of each curve."""
    columns = [one.values(history) for one in series]
    known = [value for column in columns for value in column if math.isfinite(value)]
    marks = ticks(min(known, default=0.0), max(known, default=1.0))
    plane = _Plane(len(history), marks[0], marks[-1])
    dotted = len(history) * len(series) <= MOST_DOTS
    drawn = [_curve(one, column, plane, best, dotted) for one, column in zip(series, columns, strict=True)]
    ends = f"{title} from epoch {history.epochs[0]} to {history.epochs[-1]}: {about or _ends(series, columns)}"
    return tag(
        "svg",
        *_axes(plane, marks, history),
        *_best(plane, history, best),
        *drawn,
        tag("line", class_="cursor", x1=LEFT, x2=LEFT, y1=TOP, y2=BOTTOM),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=ends + (f"; the best epoch is {history.epochs[best]}" if best is not None else ""),
    )


def entry(one: Series, history: History, at: int) -> tuple[Html, Html, Html]:
    """What a legend says of a curve: a sample, its name, and its value at the place ``at``, with all others."""
    line = tag("line", class_="curve", x1=0, x2=18, y1=5, y2=5)
    texts = [value_text(value) for value in one.values(history)]
    shown = tag("span", texts[at], class_="number", data_values=json.dumps(texts, separators=(",", ":")))
    return tag("svg", line, viewBox="0 0 18 10", class_=f"line {one.style}"), tag("span", named(one.name), " "), shown


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


def _curve(one: Series, column: Sequence[float], plane: _Plane, best: int | None, dotted: bool) -> Html:
    points = [(plane.x(k), plane.y(v)) if math.isfinite(v) else None for k, v in enumerate(column)]
    words, joins = [], False
    for point in points:
        words += [f"{'L' if joins else 'M'}{point[0]:.1f} {point[1]:.1f}"] if point else []
        joins = point is not None
    parts = [tag("path", class_="curve", d=" ".join(words))]
    for k, point in enumerate(points):
        if point and (dotted or k == best):
            radius = 4 if k == best else 2
            parts.append(tag("circle", class_="dot", cx=f"{point[0]:.1f}", cy=f"{point[1]:.1f}", r=radius))
    return tag("g", *parts, class_=f"line {one.style}")


def _ends(series: Sequence[Series], columns: Sequence[Sequence[float]]) -> str:
    pairs = zip(series, columns, strict=True)
    return ", ".join(f"{one.name} from {value_text(c[0])} to {value_text(c[-1])}" for one, c in pairs)


def value_text(value: float) -> str:
    """A value in four digits."""
    return f"{value:.4g}" if math.isfinite(value) else UNKNOWN
