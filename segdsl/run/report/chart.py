"""Line charts over the epochs as SVG: axes, curves, the mark of the best epoch, and the legend."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from segdsl.run.report.history import History
from segdsl.run.report.markup import UNKNOWN, Html, isolate_name, tag

WIDTH, HEIGHT = 400, 238
LEFT, RIGHT, TOP, BOTTOM = 52, 390, 18, 202
"""The plot area within a chart, in units of its view box (about one pixel each on a phone)."""
TARGET_TICKS = 5
STYLE_COUNT = 8
"""Number of distinguishable curve styles, `c1` to `c8` in the stylesheet."""
FAINT_STYLE = "faint"
"""The style of further curves."""
# More dots would merge into a thick line and make up most of the file.
MAX_DOTS = 400
"""Maximum number of points in a chart that are drawn with dots."""


@dataclass(frozen=True, slots=True)
class Series:
    """A curve: name in the legend, column in the log, style in the stylesheet, and a ``factor`` for the values."""

    name: str
    column: str
    style: str
    factor: float = 1.0

    def read_values(self, history: History) -> list[float]:
        """Return a value for each epoch, nan if the log has none."""
        return [value * self.factor for value in history.get_column(self.column)]


def get_curve_style(number: int) -> str:
    """Return the style of a curve by its number, from 0."""
    return f"c{number % STYLE_COUNT + 1}"


def render_figure(title: str, series: Sequence[Series], history: History, best_index: int | None) -> Html:
    """Render a chart with its title and legend; ``best_index`` is the index of the best epoch."""
    # The legend shows the values at the best epoch, else at the last.
    index = best_index if best_index is not None else len(history) - 1
    legend = tag("ul", *(tag("li", *render_legend_entry(one, history, index)) for one in series), class_="legend")
    head = tag("figcaption", tag("h3", title), legend)
    return tag("figure", head, render_plot(title, series, history, best_index), class_="chart")


def render_plot(
    title: str, series: Sequence[Series], history: History, best_index: int | None, description: str = ""
) -> Html:
    """Render the drawing of a chart.

    ``description`` is its text for screen readers, by default the first and last value of each curve.
    """
    columns = [one.read_values(history) for one in series]
    finite = [value for column in columns for value in column if math.isfinite(value)]
    marks = compute_ticks(min(finite, default=0.0), max(finite, default=1.0))
    area = _PlotArea(len(history), marks[0], marks[-1])
    has_dots = len(history) * len(series) <= MAX_DOTS
    curves = [
        _render_curve(one, column, area, best_index, has_dots) for one, column in zip(series, columns, strict=True)
    ]
    course = description or _describe_ends(series, columns)
    ends = f"{title} from epoch {history.epochs[0]} to {history.epochs[-1]}: {course}"
    return tag(
        "svg",
        *_render_axes(area, marks, history),
        *_render_best_mark(area, history, best_index),
        *curves,
        tag("line", class_="cursor", x1=LEFT, x2=LEFT, y1=TOP, y2=BOTTOM),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=ends + (f"; the best epoch is {history.epochs[best_index]}" if best_index is not None else ""),
    )


def render_legend_entry(series: Series, history: History, index: int) -> tuple[Html, Html, Html]:
    """Render the legend of a curve: a sample, its name, and its value at ``index``; all values go into an attribute."""
    line = tag("line", class_="curve", x1=0, x2=18, y1=5, y2=5)
    texts = [format_value(value) for value in series.read_values(history)]
    # The script reads the attribute to show the values of other epochs.
    value = tag("span", texts[index], class_="number", data_values=json.dumps(texts, separators=(",", ":")))
    return (
        tag("svg", line, viewBox="0 0 18 10", class_=f"line {series.style}"),
        tag("span", isolate_name(series.name), " "),
        value,
    )


@dataclass(frozen=True, slots=True)
class _PlotArea:
    """Maps epoch indices (of ``epoch_count``) and values (from ``low`` to ``high``) to positions in a chart."""

    epoch_count: int
    low: float
    high: float

    def to_x(self, index: int) -> float:
        return LEFT + (RIGHT - LEFT) * (index / (self.epoch_count - 1) if self.epoch_count > 1 else 0.5)

    def to_y(self, value: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * (value - self.low) / (self.high - self.low)


def compute_ticks(low: float, high: float) -> list[float]:
    """Return about five round numbers from below ``low`` to above ``high``, including 0 if it is near."""
    # Without 0 on the axis, differences look larger than they are.
    if low > 0 and low < 0.6 * high:
        low = 0.0
    # A constant curve still needs an axis with an extent.
    if high - low <= 1e-12 * max(abs(high), abs(low)):
        low, high = (0.0, high) if high > 0 else (low - 1, low + 1)
    rough = (high - low) / (TARGET_TICKS - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    # The tolerances keep rounding errors from adding a step or a tick.
    step = next(power * f for f in (1, 2, 2.5, 5, 10) if power * f >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [step * k for k in range(first, last + 1)]


def _render_axes(area: _PlotArea, tick_values: Sequence[float], history: History) -> Iterator[Html]:
    for mark in tick_values:
        y = round(area.to_y(mark), 1)
        yield tag("line", class_="grid", x1=LEFT, x2=RIGHT, y1=y, y2=y)
        yield tag("text", f"{mark:.6g}", class_="tick end", x=LEFT - 6, y=y + 4)
    for index in _spread_indices(len(history)):
        yield tag("text", str(history.epochs[index]), class_="tick middle", x=round(area.to_x(index), 1), y=BOTTOM + 16)
    yield tag("text", "epoch", class_="tick end", x=RIGHT, y=HEIGHT - 4)


def _spread_indices(count: int) -> list[int]:
    """Return evenly spaced epoch indices, including the first and the last."""
    indices = list(range(0, count, max(1, math.ceil((count - 1) / TARGET_TICKS))))
    # The last one replaces its neighbor, whose label would overlap.
    return indices if indices[-1] == count - 1 else [*indices[:-1], count - 1]


def _render_best_mark(area: _PlotArea, history: History, best_index: int | None) -> Iterator[Html]:
    if best_index is None:
        return
    x = round(area.to_x(best_index), 1)
    # The label goes to the side with more space.
    right = x > (LEFT + RIGHT) / 2
    yield tag("line", class_="best", x1=x, x2=x, y1=TOP - 4, y2=BOTTOM)
    place = {"class_": f"tick {'end' if right else 'start'}", "x": x - 5 if right else x + 5, "y": TOP - 6}
    yield tag("text", f"best: epoch {history.epochs[best_index]}", **place)


def _render_curve(
    series: Series, values: Sequence[float], area: _PlotArea, best_index: int | None, has_dots: bool
) -> Html:
    points = [(area.to_x(k), area.to_y(v)) if math.isfinite(v) else None for k, v in enumerate(values)]
    commands, is_connected = [], False
    for point in points:
        # A missing value interrupts the line instead of being interpolated.
        commands += [f"{'L' if is_connected else 'M'}{point[0]:.1f} {point[1]:.1f}"] if point else []
        is_connected = point is not None
    parts = [tag("path", class_="curve", d=" ".join(commands))]
    for k, point in enumerate(points):
        if point and (has_dots or k == best_index):
            radius = 4 if k == best_index else 2
            parts.append(tag("circle", class_="dot", cx=f"{point[0]:.1f}", cy=f"{point[1]:.1f}", r=radius))
    return tag("g", *parts, class_=f"line {series.style}")


def _describe_ends(series: Sequence[Series], columns: Sequence[Sequence[float]]) -> str:
    pairs = zip(series, columns, strict=True)
    return ", ".join(f"{one.name} from {format_value(c[0])} to {format_value(c[-1])}" for one, c in pairs)


def format_value(value: float) -> str:
    """Format a value with four significant digits."""
    return f"{value:.4g}" if math.isfinite(value) else UNKNOWN
