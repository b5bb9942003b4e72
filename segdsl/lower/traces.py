"""Where in the `.seg` sources a node was written, in the form of a Python stack trace: fx keeps and prints it."""

from __future__ import annotations

from collections.abc import Mapping

from segdsl.diagnostics import Span, position
from segdsl.ir.graph import Graph


def nearest_spans(graph: Graph) -> dict[str, Span | None]:
    """The span of every node by path; one without gets that of the node before it, or else the first there is."""
    known = next((node.span for node in graph.nodes if node.span is not None), None)
    found: dict[str, Span | None] = {}
    for node in graph.nodes:
        known = node.span or known
        found[node.path] = known
    return found


def stack_trace(path: str, span: Span | None, sources: Mapping[str, str]) -> str:
    """`File "specs/x.seg", line 31, in PATH` and below it the line itself (or the path, where no source is known)."""
    text = sources.get(span.file) if span else None
    if span is None or text is None:
        return f'File "{span.file if span else "<graph>"}", line 1, in {path}\n    {path}'
    line = position(text, span.start).line
    source = text.splitlines()[line - 1].strip() if line <= len(text.splitlines()) else ""
    return f'File "{span.file}", line {line}, in {path}\n    {source or path}'
