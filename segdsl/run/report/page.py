"""The HTML page of a report: header, table of contents and sections, in one self-contained file."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from pathlib import Path

from segdsl.run.console.display import format_duration
from segdsl.run.report.markup import UNKNOWN, Html, render_facts, tag
from segdsl.run.report.run_data import RunData
from segdsl.run.report.sections.classes import render_class_table, render_confusion
from segdsl.run.report.sections.curves import render_curves
from segdsl.run.report.sections.dataset import render_dataset
from segdsl.run.report.sections.images import render_images
from segdsl.run.report.sections.model import render_model, render_program
from segdsl.run.report.sections.timings import render_timings
from segdsl.run.report.sections.training import render_training
from segdsl.version import __version__

ASSET_FOLDER = Path(__file__).parent
SectionRenderer = Callable[[RunData], Html]
SECTIONS: dict[str, tuple[str, SectionRenderer]] = {
    "curves": ("Learning curves", render_curves),
    "classes": ("Classes", render_class_table),
    "confusion": ("Confusion", render_confusion),
    "pictures": ("Images", render_images),
    "data": ("Data", render_dataset),
    "model": ("Model", render_model),
    "program": ("Program", render_program),
    "timings": ("Timings and machine", render_timings),
}
"""Title and renderer of each section by its anchor, in the order of the page."""
INITIALLY_CLOSED = ("program",)
"""Sections that are initially collapsed."""


def render_page(run: RunData) -> str:
    """Render the whole document."""
    style, script = (Html((ASSET_FOLDER / name).read_text(encoding="utf-8")) for name in ("report.css", "report.js"))
    # Names and paths on the page are untrusted input. Even if some of it escaped escaping, this policy prevents that it
    # runs or loads anything.
    style_hash, script_hash = _compute_csp_hash(style), _compute_csp_hash(script)
    policy = f"default-src 'none'; img-src data:; style-src {style_hash}; script-src {script_hash}; "
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=f"{policy}base-uri 'none'; form-action 'none'"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{run.name}: run report"),
        tag("style", style),
    )
    links = [tag("li", tag("a", title, href=f"#{name}")) for name, (title, _) in SECTIONS.items()]
    contents = tag("nav", tag("ul", *links), aria_label="Contents")
    sections = [_render_section(name, title, make(run)) for name, (title, make) in SECTIONS.items()]
    foot = tag("footer", f"Written by segdsl {__version__}.")
    # For keyboard and screen reader users, who would otherwise walk through the contents first.
    skip = tag("a", "Skip to content", href="#main", class_="skip")
    main = tag("main", render_header(run), *sections, foot, id="main")
    body = tag("body", skip, contents, main, tag("script", script))
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def render_header(run: RunData) -> Html:
    """Render the name of the run and its key figures."""
    monitor, best, history = run.program.train.monitor, run.best_index, run.history
    size, outcome = run.program.data.input_size, history.describe_outcome(run.program)
    figures = render_facts(
        ("best epoch", UNKNOWN if best is None else f"{history.epochs[best]} of {history.epochs[-1]}"),
        (monitor, UNKNOWN if best is None else f"{history.get_column(monitor)[best]:.4f}"),
        ("time", format_duration(history.get_column("seconds")[-1]) if len(history) else UNKNOWN),
        ("parameters", f"{run.parts.parameters:,}"),
    )
    about = f"{run.program.graph.name} from {run.source_files}: {len(run.classes)} classes at {size}"
    resumed = len(run.resumptions)
    outcome += f" (resumed {'once' if resumed == 1 else f'{resumed} times'})" if resumed else ""
    ended = f"{outcome} after {len(history)} of {run.program.train.epochs} epochs"
    return tag("header", tag("h1", run.name), tag("p", f"{about}; {ended}."), figures, render_training(run))


def _render_section(name: str, title: str, content: Html) -> Html:
    summary = tag("summary", tag("h2", title, id=f"{name}-title"))
    inner = tag("div", content, class_="content")
    details = tag("details", summary, inner, id=name, open=name not in INITIALLY_CLOSED)
    return tag("section", details, aria_labelledby=f"{name}-title")


def _compute_csp_hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"
