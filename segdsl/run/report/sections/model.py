"""The sections on the model, as a tree of its parts, and on the program of the run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.lexers.special import TextLexer
from pygments.util import ClassNotFound

from segdsl.ir.parts import Part
from segdsl.run.report.markup import Html, join_html, render_facts, tag, wrap_scrollable
from segdsl.run.report.run_data import RunData
from segdsl.run.report.sections.dataset import render_bar
from segdsl.text.columns import sanitize_text

MAX_PARTS, MAX_DEPTH = 1_000, 8
"""Maximum number of parts and of levels in the tree; with more parts, fewer levels are rendered."""
COLUMNS = ("part", "output", "parameters", "GFLOPs", "share")


def render_model(run: RunData) -> Html:
    """Render the cost of the model and the tree of its parts."""
    whole, graph = run.parts, run.program.graph
    names = {path: name for name, path in graph.outputs.items()}
    depth = next(d for d in range(MAX_DEPTH, 0, -1) if d == 1 or sum(1 for _ in whole.walk_rows(d)) <= MAX_PARTS)
    about = render_facts(
        ("model", graph.name),
        ("parameters", f"{whole.parameters:,}"),
        ("trainable", f"{whole.trained:,}"),
        ("fixed", f"{whole.fixed:,}" if whole.fixed else None),
        ("FLOPs", f"{2 * whole.macs / 1e9:.3f} G for one image of {run.program.data.input_size}"),
    )
    head = tag("div", *(tag("span", name) for name in COLUMNS), class_="part head", aria_hidden="true")
    tree = [_render_part(part, whole, names, 0, depth) for part in whole.children.values()]
    return join_html(about, tag("div", head, *tree, class_="tree"))


def _render_part(part: Part, whole: Part, names: dict[str, str], level: int, depth: int) -> Html:
    """Render a part and its children; empty for a part without parameters and cost that is not an output."""
    if not (part.parameters or part.macs or part.path in names):
        return Html("")
    share = part.macs / whole.macs if whole.macs else 0.0
    label = join_html(
        part.find_display_name(names), *([tag("small", f" {part.freeze_state}")] if part.freeze_state else [])
    )
    cells = [
        tag("span", label, class_="label"),
        tag("span", part.format_sizes(), data_name="output "),
        tag("span", f"{part.parameters:,}", data_name="parameters "),
        tag("span", f"{2 * part.macs / 1e9:.3f}", data_name="GFLOPs "),
        tag("span", render_bar(share), tag("span", f"{share:.1%}"), class_="share"),
    ]
    if not part.needs_expansion(level, depth):
        return tag("div", *cells, class_="part")
    inner = [_render_part(child, whole, names, level + 1, depth) for child in part.children.values()]
    return tag("details", tag("summary", *cells, class_="part"), tag("div", *inner, class_="inner"), open=level == 0)


def render_program(run: RunData) -> Html:
    """Render the complete program of the run, highlighted, and its lock file."""
    text = run.folder.program.read_text(encoding="utf-8")
    code = wrap_scrollable(tag("pre", tag("code", highlight_program(text))), "program.seg")
    lock = _format_lock(run.lock)
    lock_html = (
        wrap_scrollable(tag("pre", tag("code", lock)), "lock.json") if lock else tag("p", "No readable lock file.")
    )
    return join_html(tag("h3", "program.seg"), code, tag("h3", "lock.json"), lock_html)


def _format_lock(lock: Mapping[str, Any]) -> str:
    """Format a lock as JSON; empty if it is empty or damaged."""
    try:
        return json.dumps(lock, indent=2, sort_keys=True, ensure_ascii=False) if lock else ""
    except RecursionError:
        # The file was not written by segdsl, whose locks are shallow.
        return ""


def highlight_program(text: str) -> Html:
    """Render a program as HTML, highlighted and escaped by Pygments; without colors if our lexer is not installed."""
    # By name, as a plugin of Pygments: the lexer belongs to a higher layer, which must not be imported here.
    try:
        lexer = get_lexer_by_name("seg")
    except ClassNotFound:
        lexer = TextLexer()
    return Html(highlight(sanitize_text(text, "\n\t"), lexer, HtmlFormatter(nowrap=True)))
