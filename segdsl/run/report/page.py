"""The HTML page of a report: header, table of contents and sections, in one self-contained file."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from pathlib import Path

from segdsl.run.console.display import duration
from segdsl.run.report.markup import UNKNOWN, Html, facts, tag
from segdsl.run.report.run_data import Material
from segdsl.run.report.sections.classes import class_table, confusion_section
from segdsl.run.report.sections.curves import curves
from segdsl.run.report.sections.dataset import dataset
from segdsl.run.report.sections.images import pictures
from segdsl.run.report.sections.model import model, program
from segdsl.run.report.sections.timings import timings
from segdsl.run.report.sections.training import training
from segdsl.version import __version__

HERE = Path(__file__).parent
Section = Callable[[Material], Html]
SECTIONS: dict[str, tuple[str, Section]] = {
    "curves": ("Learning curves", curves),
    "classes": ("Classes", class_table),
    "confusion": ("Confusion", confusion_section),
    "pictures": ("Images", pictures),
    "data": ("Data", dataset),
    "model": ("Model", model),
    "program": ("Program", program),
    "timings": ("Timings and machine", timings),
}
"""Title and renderer of each section by its anchor, in the order of the page."""
CLOSED = ("program",)
"""Sections that are initially collapsed."""


def page(material: Material) -> str:
    """Render the whole document."""
    style, script = (Html((HERE / name).read_text(encoding="utf-8")) for name in ("report.css", "report.js"))
    # Names and paths on the page are untrusted input. Even if some of it escaped escaping, this policy prevents that it
    # runs or loads anything.
    policy = f"default-src 'none'; img-src data:; style-src {_digest(style)}; script-src {_digest(script)}; "
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=f"{policy}base-uri 'none'; form-action 'none'"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{material.name}: run report"),
        tag("style", style),
    )
    links = [tag("li", tag("a", title, href=f"#{name}")) for name, (title, _) in SECTIONS.items()]
    contents = tag("nav", tag("ul", *links), aria_label="Contents")
    sections = [_section(name, title, make(material)) for name, (title, make) in SECTIONS.items()]
    foot = tag("footer", f"Written by segdsl {__version__}.")
    # For keyboard and screen reader users, who would otherwise walk through the contents first.
    skip = tag("a", "Skip to content", href="#main", class_="skip")
    main = tag("main", headline(material), *sections, foot, id="main")
    body = tag("body", skip, contents, main, tag("script", script))
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def headline(material: Material) -> Html:
    """Render the name of the run and its key figures."""
    monitor, best, history = material.program.train.monitor, material.best, material.history
    size, outcome = material.program.data.input_size, history.outcome(material.program)
    figures = facts(
        ("best epoch", UNKNOWN if best is None else f"{history.epochs[best]} of {history.epochs[-1]}"),
        (monitor, UNKNOWN if best is None else f"{history.column(monitor)[best]:.4f}"),
        ("time", duration(history.column("seconds")[-1]) if len(history) else UNKNOWN),
        ("parameters", f"{material.parts.parameters:,}"),
    )
    about = f"{material.program.graph.name} from {material.written_in}: {len(material.classes)} classes at {size}"
    resumed = len(material.resumptions)
    outcome += f" (resumed {'once' if resumed == 1 else f'{resumed} times'})" if resumed else ""
    ended = f"{outcome} after {len(history)} of {material.program.train.epochs} epochs"
    return tag("header", tag("h1", material.name), tag("p", f"{about}; {ended}."), figures, training(material))


def _section(name: str, title: str, content: Html) -> Html:
    summary = tag("summary", tag("h2", title, id=f"{name}-title"))
    inner = tag("div", content, class_="content")
    details = tag("details", summary, inner, id=name, open=name not in CLOSED)
    return tag("section", details, aria_labelledby=f"{name}-title")


def _digest(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"
