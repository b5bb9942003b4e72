"""The sections on the model, as a tree of its parts, and on the program of the run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.lexers.special import TextLexer
from pygments.util import ClassNotFound

from segdsl.ir.parts import Part
from segdsl.run.report.run_data import RunData
from segdsl.text.columns import sanitize_text

MAX_PARTS, MAX_DEPTH = 1_000, 8
"""Maximum number of parts and of levels in the tree; with more parts, fewer levels are rendered."""


class PartView(NamedTuple):
    """A part of the tree; ``share`` is that of the cost. ``children`` is None if they are not shown."""

    name: str
    state: str
    output: str
    parameters: int
    gflops: float
    share: float
    children: list[PartView] | None


def collect_model(run: RunData) -> dict[str, object]:
    """Return the cost of the model and the tree of its parts."""
    whole, graph = run.parts, run.program.graph
    names = {path: name for name, path in graph.outputs.items()}
    depth = next(d for d in range(MAX_DEPTH, 0, -1) if d == 1 or sum(1 for _ in whole.walk_rows(d)) <= MAX_PARTS)
    facts = [
        ("model", graph.name),
        ("parameters", f"{whole.parameters:,}"),
        ("trainable", f"{whole.trained:,}"),
        ("fixed", f"{whole.fixed:,}" if whole.fixed else None),
        ("FLOPs", f"{2 * whole.macs / 1e9:.3f} G for one image of {run.program.data.input_size}"),
    ]
    tree = _PartTree(names, depth, max(whole.macs, 1))
    return {"facts": facts, "parts": list(tree.collect_parts(whole.children.values(), 0))}


class _PartTree(NamedTuple):
    """Collects the parts down to ``depth`` levels; ``names`` are those of the outputs, ``macs`` the whole cost."""

    names: dict[str, str]
    depth: int
    macs: int

    def collect_parts(self, parts: Iterable[Part], level: int) -> Iterator[PartView]:
        """Yield the parts at a level, except those without parameters and cost that are not an output."""
        for part in parts:
            if part.parameters or part.macs or part.path in self.names:
                yield self._collect_part(part, level)

    def _collect_part(self, part: Part, level: int) -> PartView:
        expanded = part.needs_expansion(level, self.depth)
        return PartView(
            part.find_display_name(self.names),
            part.freeze_state,
            part.format_sizes(),
            part.parameters,
            2 * part.macs / 1e9,
            part.macs / self.macs,
            list(self.collect_parts(part.children.values(), level + 1)) if expanded else None,
        )


def collect_program(run: RunData) -> dict[str, object]:
    """Return the complete program of the run, highlighted, and its lock file."""
    text = run.folder.program.read_text(encoding="utf-8")
    return {"code": highlight_program(text), "lock": _format_lock(run.lock)}


def _format_lock(lock: Mapping[str, Any]) -> str:
    """Format a lock as JSON; empty if it is empty or damaged."""
    try:
        return json.dumps(lock, indent=2, sort_keys=True, ensure_ascii=False) if lock else ""
    except RecursionError:
        # The file was not written by segdsl, whose locks are shallow.
        return ""


def highlight_program(text: str) -> str:
    """Return a program as HTML, highlighted and escaped by Pygments; without colors if our lexer is not installed."""
    # By name, as a plugin of Pygments: the lexer belongs to a higher layer, which must not be imported here.
    try:
        lexer = get_lexer_by_name("seg")
    except ClassNotFound:
        lexer = TextLexer()
    return highlight(sanitize_text(text, "\n\t"), lexer, HtmlFormatter(nowrap=True))
