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

from segdsl.diagnostics.render import clean
from segdsl.ir.parts import Part
from segdsl.run.report.markup import Html, facts, joined, scrolled, tag
from segdsl.run.report.run_data import Material
from segdsl.run.report.sections.dataset import bar

MOST_PARTS, DEEPEST = 1_000, 8
"""Maximum number of parts and of levels in the tree; with more parts, fewer levels are rendered."""
COLUMNS = ("part", "output", "parameters", "GFLOPs", "share")


def model(material: Material) -> Html:
    """Render the cost of the model and the tree of its parts."""
    whole, graph = material.parts, material.program.graph
    names = {path: name for name, path in graph.outputs.items()}
    depth = next(d for d in range(DEEPEST, 0, -1) if d == 1 or sum(1 for _ in whole.rows(d)) <= MOST_PARTS)
    about = facts(
        ("model", graph.name),
        ("parameters", f"{whole.parameters:,}"),
        ("trainable", f"{whole.trained:,}"),
        ("fixed", f"{whole.fixed:,}" if whole.fixed else None),
        ("FLOPs", f"{2 * whole.macs / 1e9:.3f} G for one image of {material.program.data.input_size}"),
    )
    head = tag("div", *(tag("span", name) for name in COLUMNS), class_="part head", aria_hidden="true")
    tree = [_node(part, whole, names, 0, depth) for part in whole.children.values()]
    return joined(about, tag("div", head, *tree, class_="tree"))


def _node(part: Part, whole: Part, names: dict[str, str], level: int, depth: int) -> Html:
    """Render a part and its children; empty for a part without parameters and cost that is not an output."""
    if not (part.parameters or part.macs or part.path in names):
        return Html("")
    share = part.macs / whole.macs if whole.macs else 0.0
    label = joined(part.called(names), *([tag("small", f" {part.kept}")] if part.kept else []))
    cells = [
        tag("span", label, class_="label"),
        tag("span", part.sizes(), data_name="output "),
        tag("span", f"{part.parameters:,}", data_name="parameters "),
        tag("span", f"{2 * part.macs / 1e9:.3f}", data_name="GFLOPs "),
        tag("span", bar(share), tag("span", f"{share:.1%}"), class_="share"),
    ]
    if not part.opens(level, depth):
        return tag("div", *cells, class_="part")
    inner = [_node(child, whole, names, level + 1, depth) for child in part.children.values()]
    return tag("details", tag("summary", *cells, class_="part"), tag("div", *inner, class_="inner"), open=level == 0)


def program(material: Material) -> Html:
    """Render the complete program of the run, highlighted, and its lock file."""
    text = material.folder.program.read_text(encoding="utf-8")
    code = scrolled(tag("pre", tag("code", highlighted(text))), "program.seg")
    lock = _printed(material.lock)
    lock_html = scrolled(tag("pre", tag("code", lock)), "lock.json") if lock else tag("p", "No readable lock file.")
    return joined(tag("h3", "program.seg"), code, tag("h3", "lock.json"), lock_html)


def _printed(lock: Mapping[str, Any]) -> str:
    """Format a lock as JSON; empty if it is empty or damaged."""
    try:
        return json.dumps(lock, indent=2, sort_keys=True, ensure_ascii=False) if lock else ""
    except RecursionError:
        # The file was not written by segdsl, whose locks are shallow.
        return ""


def highlighted(text: str) -> Html:
    """Render a program as HTML, highlighted and escaped by Pygments; without colors if our lexer is not installed."""
    # By name, as a plugin of Pygments: the lexer belongs to a higher layer, which must not be imported here.
    try:
        lexer = get_lexer_by_name("seg")
    except ClassNotFound:
        lexer = TextLexer()
    return Html(highlight(clean(text, "\n\t"), lexer, HtmlFormatter(nowrap=True)))
