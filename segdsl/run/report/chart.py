"""Line charts over the epochs: positions of axes, curves and marks, and the legend, as templates draw them in SVG."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from segdsl.pages.page import UNKNOWN
from segdsl.run.report.history import History

TARGET_TICKS = 5
STYLE_COUNT = 8
"""Number of distinguishable curve styles, `c1` to `c8` in the stylesheet."""
FAINT_STYLE = "faint"
"""The style of further curves."""
# More dots would merge into a thick line and make up most of the file.
MAX_DOTS = 400
"""Maximum number of points in a chart that are drawn with dots."""


class PlotArea(NamedTuple):
    """The size of a chart, and the edges of the plot in it, in units of its view box (about a pixel on a phone)."""

    width: int = 400
    height: int = 238
    left: int = 52
    right: int = 390
    top: int = 18
    bottom: int = 202


AREA = PlotArea()


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


class LegendEntry(NamedTuple):
    """The legend of a curve, with the ``value`` at an epoch and the ``values`` at all of them, as JSON."""

    style: str
    name: str
    value: str
    values: str


class Curve(NamedTuple):
    """A curve: a path of SVG, and dots as x, y and radius."""

    style: str
    path: str
    dots: list[tuple[str, str, int]]


class Plot(NamedTuple):
    """The drawing of a chart.

    ``marks`` are those of the value axis, each with its y, ``epochs`` those of the other, each with its x; ``best`` is
    the x of the best epoch and its number.
    """

    description: str
    area: PlotArea
    marks: list[tuple[float, str]]
    epochs: list[tuple[float, str]]
    best: tuple[float, int] | None
    curves: list[Curve]


class Chart(NamedTuple):
    """A chart with its title and legend."""

    title: str
    legend: list[LegendEntry]
    plot: Plot


@dataclass(frozen=True, slots=True)
class _Scale:
    """Maps epoch indices (of ``epoch_count``) and values (from ``low`` to ``high``) to positions in a chart."""

    epoch_count: int
    low: float
    high: float

    def to_x(self, index: int) -> float:
        share = index / (self.epoch_count - 1) if self.epoch_count > 1 else 0.5
        return AREA.left + (AREA.right - AREA.left) * share

    def to_y(self, value: float) -> float:
        return AREA.bottom - (AREA.bottom - AREA.top) * (value - self.low) / (self.high - self.low)


def get_curve_style(number: int) -> str:
    """Return the style of a curve by its number, from 0."""
    return f"c{number % STYLE_COUNT + 1}"


def make_chart(title: str, series: Sequence[Series], history: History, best_index: int | None) -> Chart:
    """Return a chart; ``best_index`` is the index of the best epoch."""
    # The legend shows the values at the best epoch, else at the last.
    index = best_index if best_index is not None else len(history) - 1
    legend = [make_legend_entry(one, history, index) for one in series]
    return Chart(title, legend, make_plot(title, series, history, best_index))


def make_legend_entry(series: Series, history: History, index: int) -> LegendEntry:
    """Return the legend of a curve, with its value at ``index``."""
    texts = [format_value(value) for value in series.read_values(history)]
    return LegendEntry(series.style, series.name, texts[index], json.dumps(texts, separators=(",", ":")))


def make_plot(
    title: str, series: Sequence[Series], history: History, best_index: int | None, description: str = ""
) -> Plot:
    """Return the drawing of a chart.

    ``description`` is its text for screen readers, by default the first and last value of each curve.
    """
    columns = [one.read_values(history) for one in series]
    finite = [value for column in columns for value in column if math.isfinite(value)]
    ticks = compute_ticks(min(finite, default=0.0), max(finite, default=1.0))
    scale = _Scale(len(history), ticks[0], ticks[-1])
    dots = range(len(history)) if len(history) * len(series) <= MAX_DOTS else ()
    course = description or _describe_ends(series, columns)
    text = f"{title} from epoch {history.epochs[0]} to {history.epochs[-1]}: {course}"
    best = None if best_index is None else (round(scale.to_x(best_index), 1), history.epochs[best_index])
    return Plot(
        text + (f"; the best epoch is {best[1]}" if best else ""),
        AREA,
        [(round(scale.to_y(tick), 1), f"{tick:.6g}") for tick in ticks],
        [(round(scale.to_x(k), 1), str(history.epochs[k])) for k in _spread_indices(len(history))],
        best,
        [_make_curve(s.style, c, scale, dots, best_index) for s, c in zip(series, columns, strict=True)],
    )


def _make_curve(
    style: str, values: Sequence[float], scale: _Scale, dots: Sequence[int], best_index: int | None
) -> Curve:
    known = {k: (f"{scale.to_x(k):.1f}", f"{scale.to_y(v):.1f}") for k, v in enumerate(values) if math.isfinite(v)}
    # A missing value interrupts the line instead of being interpolated.
    path = " ".join(f"{'L' if k - 1 in known else 'M'}{x} {y}" for k, (x, y) in known.items())
    shown = {**dict.fromkeys(dots, 2), **({} if best_index is None else {best_index: 4})}
    return Curve(style, path, [(*known[k], radius) for k, radius in shown.items() if k in known])


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


def _spread_indices(count: int) -> list[int]:
    """Return evenly spaced epoch indices, including the first and the last."""
    indices = list(range(0, count, max(1, math.ceil((count - 1) / TARGET_TICKS))))
    # The last one replaces its neighbor, whose label would overlap.
    return indices if indices[-1] == count - 1 else [*indices[:-1], count - 1]


def _describe_ends(series: Sequence[Series], columns: Sequence[Sequence[float]]) -> str:
    pairs = zip(series, columns, strict=True)
    return ", ".join(f"{one.name} from {format_value(c[0])} to {format_value(c[-1])}" for one, c in pairs)


def format_value(value: float) -> str:
    """Format a value with four significant digits."""
    return f"{value:.4g}" if math.isfinite(value) else UNKNOWN
