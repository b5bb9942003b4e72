"""The chart of the Dice of every class over the epochs: all as thin lines, and those the reader selects in color."""

from __future__ import annotations

import math
from collections.abc import Sequence

from segdsl.run.report.chart import FAINT, STYLES, Series, entry, plot, style, value_text
from segdsl.run.report.history import History
from segdsl.run.report.markup import Html, tag

TITLE = "Dice by class"


def class_curves(classes: Sequence[str], history: History, best: int | None) -> Html:
    """Render the chart and the list of classes by their Dice at the best epoch, lowest first.

    The lowest ones are in color; the script lets the reader select others.
    """
    index = best if best is not None else len(history) - 1
    order = sorted((_place(history.column(f"val.dice.{name}")[index]), name) for name in classes)
    series = [Series(name, f"val.dice.{name}", style(k) if k < STYLES else FAINT) for k, (_, name) in enumerate(order)]
    # Reversed: what is drawn last is on top, and the colored curves come first in the list.
    drawing = plot(TITLE, series[::-1], history, best, _described(series, history, index))
    entries = [_choice(one, history, index) for one in series]
    many = len(series) > STYLES
    epoch = f"epoch {history.epochs[index]}"
    about = f"In color: the {STYLES} lowest of {len(series)} classes" if many else "Lowest first,"
    hint = f"Select up to {STYLES} classes." if many else ""
    note = tag("p", f"{about} at {epoch}. ", tag("span", hint, class_="choosing", hidden=True))
    legend = tag("ul", *entries, class_="legend chosen", tabindex=0 if many else None, aria_label=f"{TITLE}: classes")
    head = tag("figcaption", tag("h3", TITLE), note, legend)
    return tag("figure", head, drawing, class_="chart by-class", id="by-class", data_styles=STYLES)


def _place(value: float) -> float:
    """Return a sort key that puts classes without a score last."""
    return math.inf if math.isnan(value) else value


def _choice(one: Series, history: History, at: int) -> Html:
    checked = one.style != FAINT
    # Without autocomplete, since browsers restore checkboxes on reload but not the colors that the script changed.
    box = tag("input", type="checkbox", checked=checked, hidden=True, autocomplete="off")
    return tag("li", tag("label", box, *entry(one, history, at)))


def _described(series: Sequence[Series], history: History, at: int) -> str:
    ends = {one.name: value_text(one.values(history)[at]) for one in (series[0], series[-1])}
    return ", ".join(f"{name} {value}" for name, value in ends.items()) + f" at epoch {history.epochs[at]}"
