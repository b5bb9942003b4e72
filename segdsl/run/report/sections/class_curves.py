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
    render_legend_entry,
    render_plot,
)
from segdsl.run.report.history import History
from segdsl.run.report.markup import Html, tag

TITLE = "Dice by class"


def render_class_curves(classes: Sequence[str], history: History, best_index: int | None) -> Html:
    """Render the chart and the list of classes by their Dice at the best epoch, lowest first.

    The lowest ones are in color; the script lets the reader select others.
    """
    index = best_index if best_index is not None else len(history) - 1
    order = sorted((_make_sort_key(history.get_column(f"val.dice.{name}")[index]), name) for name in classes)
    series = [
        Series(name, f"val.dice.{name}", get_curve_style(k) if k < STYLE_COUNT else FAINT_STYLE)
        for k, (_, name) in enumerate(order)
    ]
    # Reversed: what is drawn last is on top, and the colored curves come first in the list.
    drawing = render_plot(TITLE, series[::-1], history, best_index, _describe_extremes(series, history, index))
    entries = [_render_choice(one, history, index) for one in series]
    many = len(series) > STYLE_COUNT
    epoch = f"epoch {history.epochs[index]}"
    about = f"In color: the {STYLE_COUNT} lowest of {len(series)} classes" if many else "Lowest first,"
    hint = f"Select up to {STYLE_COUNT} classes." if many else ""
    note = tag("p", f"{about} at {epoch}. ", tag("span", hint, class_="choosing", hidden=True))
    legend = tag("ul", *entries, class_="legend chosen", tabindex=0 if many else None, aria_label=f"{TITLE}: classes")
    head = tag("figcaption", tag("h3", TITLE), note, legend)
    return tag("figure", head, drawing, class_="chart by-class", id="by-class", data_styles=STYLE_COUNT)


def _make_sort_key(value: float) -> float:
    """Return a sort key that puts classes without a score last."""
    return math.inf if math.isnan(value) else value


def _render_choice(series: Series, history: History, index: int) -> Html:
    checked = series.style != FAINT_STYLE
    # Without autocomplete, since browsers restore checkboxes on reload but not the colors that the script changed.
    box = tag("input", type="checkbox", checked=checked, hidden=True, autocomplete="off")
    return tag("li", tag("label", box, *render_legend_entry(series, history, index)))


def _describe_extremes(series: Sequence[Series], history: History, index: int) -> str:
    ends = {one.name: format_value(one.read_values(history)[index]) for one in (series[0], series[-1])}
    return ", ".join(f"{name} {value}" for name, value in ends.items()) + f" at epoch {history.epochs[index]}"
