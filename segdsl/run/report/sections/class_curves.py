"""The Dice of every class over the epochs: all of them as thin lines, and some, which the reader chooses, in colour."""

from __future__ import annotations

import math
from collections.abc import Sequence

from segdsl.run.report.chart import FAINT, STYLES, Series, entry, plot, style, value_text
from segdsl.run.report.history import History
from segdsl.run.report.markup import Html, tag

TITLE = "Dice by class"


def class_curves(classes: Sequence[str], history: History, best: int | None) -> Html:
    """The chart, and beside it the classes by their Dice at the best epoch, the lowest first: these are in colour.

    Without a script the choice stands as it is.
    """
    at = best if best is not None else len(history) - 1
    ranked = sorted((_place(history.column(f"val.dice.{name}")[at]), name) for name in classes)
    series = [Series(name, f"val.dice.{name}", style(k) if k < STYLES else FAINT) for k, (_, name) in enumerate(ranked)]
    # What is drawn last lies on top.
    drawn = plot(TITLE, series[::-1], history, best, _described(series, history, at))
    entries = [_choice(one, history, at) for one in series]
    many = len(series) > STYLES
    epoch = f"epoch {history.epochs[at]}"
    about = f"In colour: the {STYLES} of {len(series)} classes that are lowest" if many else "The lowest first,"
    choice = f"Up to {STYLES} can be chosen." if many else ""
    note = tag("p", f"{about} at {epoch}. ", tag("span", choice, class_="choosing", hidden=True))
    chosen = tag("ul", *entries, class_="legend chosen", tabindex=0 if many else None, aria_label=f"{TITLE}: classes")
    head = tag("figcaption", tag("h3", TITLE), note, chosen)
    return tag("figure", head, drawn, class_="chart by-class", id="by-class", data_styles=STYLES)


def _place(value: float) -> float:
    """Where a class without a score stands: last."""
    return math.inf if math.isnan(value) else value


def _choice(one: Series, history: History, at: int) -> Html:
    checked = one.style != FAINT
    box = tag("input", type="checkbox", checked=checked, hidden=True, autocomplete="off")
    return tag("li", tag("label", box, *entry(one, history, at)))


def _described(series: Sequence[Series], history: History, at: int) -> str:
    ends = {one.name: value_text(one.values(history)[at]) for one in (series[0], series[-1])}
    return ", ".join(f"{name} {value}" for name, value in ends.items()) + f" at epoch {history.epochs[at]}"
