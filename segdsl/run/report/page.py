"""The HTML page of a report: header, table of contents and sections, in one self-contained file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from segdsl.pages.page import UNKNOWN, Section, render_page
from segdsl.run.console.display import format_duration
from segdsl.run.report.run_data import RunData
from segdsl.run.report.sections.classes import collect_class_table, collect_confusion
from segdsl.run.report.sections.curves import collect_curves
from segdsl.run.report.sections.dataset import collect_dataset
from segdsl.run.report.sections.images import collect_images
from segdsl.run.report.sections.model import collect_model, collect_program
from segdsl.run.report.sections.timings import collect_timings
from segdsl.run.report.sections.training import list_training_settings

TEMPLATES = Path(__file__).parent / "templates"
SECTIONS: dict[str, tuple[str, str, Callable[[RunData], Mapping[str, object]]]] = {
    "curves": ("Learning curves", "curves.html.j2", collect_curves),
    "classes": ("Classes", "classes.html.j2", collect_class_table),
    "confusion": ("Confusion", "confusion.html.j2", collect_confusion),
    "pictures": ("Images", "images.html.j2", collect_images),
    "data": ("Data", "dataset.html.j2", collect_dataset),
    "model": ("Model", "model.html.j2", collect_model),
    "program": ("Program", "program.html.j2", collect_program),
    "timings": ("Timings and machine", "timings.html.j2", collect_timings),
}
"""Title, template, and collector of the data of each section by its anchor, in the order of the page."""
INITIALLY_CLOSED = ("program",)
"""Sections that are initially collapsed."""


def render_report(run: RunData) -> str:
    """Render the whole document."""
    sections = [
        Section(anchor, title, template, collect(run), anchor not in INITIALLY_CLOSED)
        for anchor, (title, template, collect) in SECTIONS.items()
    ]
    resumed = len(run.resumptions)
    outcome = run.history.describe_outcome(run.program)
    outcome += f" (resumed {'once' if resumed == 1 else f'{resumed} times'})" if resumed else ""
    values = {"figures": _list_key_figures(run), "settings": list_training_settings(run), "outcome": outcome}
    return render_page(TEMPLATES, "report", sections, run=run, **values)


def _list_key_figures(run: RunData) -> list[tuple[str, str]]:
    monitor, best, history = run.program.train.monitor, run.best_index, run.history
    return [
        ("best epoch", UNKNOWN if best is None else f"{history.epochs[best]} of {history.epochs[-1]}"),
        (monitor, UNKNOWN if best is None else f"{history.get_column(monitor)[best]:.4f}"),
        ("time", format_duration(history.get_column("seconds")[-1]) if len(history) else UNKNOWN),
        ("parameters", f"{run.parts.parameters:,}"),
    ]
