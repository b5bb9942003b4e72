"""Source positions of nodes in the format of Python stack traces, which fx stores and prints."""

from __future__ import annotations

from collections.abc import Mapping

from segdsl.diagnostics import Span, find_position
from segdsl.ir.graph import Graph


def find_nearest_spans(graph: Graph) -> dict[str, Span | None]:
    """Return the span of every node by path; nodes without one get that of the node before, or the first."""
    # Nodes that passes insert have no span of their own; a nearby line is more helpful than none.
    last = next((node.span for node in graph.nodes if node.span is not None), None)
    found: dict[str, Span | None] = {}
    for node in graph.nodes:
        last = node.span or last
        found[node.path] = last
    return found


def format_stack_trace(path: str, span: Span | None, sources: Mapping[str, str]) -> str:
    """Format `File "specs/x.seg", line 31, in PATH` and below it the source line (or the path if unknown)."""
    text = sources.get(span.file) if span else None
    if span is None or text is None:
        return f'File "{span.file if span else "<graph>"}", line 1, in {path}\n    {path}'
    line = find_position(text, span.start).line
    source = text.splitlines()[line - 1].strip() if line <= len(text.splitlines()) else ""
    return f'File "{span.file}", line {line}, in {path}\n    {source or path}'
