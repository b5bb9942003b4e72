"""From a checked program to a model with weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import fx

from segdsl.diagnostics import Diagnostic, SegError, Span
from segdsl.ir.graph import Graph
from segdsl.ir.program import Program
from segdsl.lower.graph import build
from segdsl.lower.weights import load_weights
from segdsl.passes import run_passes

LATER = ("otx:", "hf:", "hub:", "timm:", "torchvision:", "http:", "https:")
"""Beginnings of the weight sources that a later version fetches."""


@dataclass(frozen=True)
class Compiled:
    """A program and the model it describes: (N, 3, H, W) normalised -> (N, classes, H, W) logits."""

    program: Program
    model: fx.GraphModule


def compile_program(program: Program, weights: str | None = None, outputs: Sequence[str] = ()) -> Compiled:
    """Builds the model of ``program``, in training mode and on the CPU.

    ``weights`` is a file for the whole model, `"none"` for a random start, or None for what the program's `weights`
    section says. With ``outputs`` the model returns a dict of the tensors at these paths. Raises SegError
    (`unknown-output`, `weights-source-later` and what :func:`~segdsl.lower.weights.load_weights` raises).
    """
    sources = {name: source.text for name, source in program.sources.items()}
    model = build(_reduced(program.graph, outputs), sources, outputs)
    if weights is None:
        for prefix, source in program.weights.items():
            span = program.spans.get(f"weights.{prefix}")
            _load(model, source, "" if prefix == "model" else prefix, span, sources)
    elif weights != "none":
        _load(model, weights, "", None, sources)
    return Compiled(program, model)


def _reduced(graph: Graph, outputs: Sequence[str]) -> Graph:
    """The graph after the passes, in which the nodes that ``outputs`` name are kept as outputs are."""
    known = {**{node.path: node.path for node in graph.nodes}, **graph.names}
    wanted = {path: known[path] for path in outputs if path in known}
    return run_passes(graph.model_copy(update={"outputs": {**graph.outputs, **wanted}}))


def _load(model: fx.GraphModule, source: str, prefix: str, span: Span | None, sources: dict[str, str]) -> None:
    if source == "none":
        return
    if source.startswith(LATER):
        message = f"`{source}`: published weights are fetched by a later version of segdsl"
        remedy = "give the path of a file, or `--weights none` for a random start"
        raise SegError([Diagnostic("weights-source-later", message, remedy, span=span)], sources)
    file = Path(source)
    if span is not None and not file.is_absolute():
        # Written in a program: relative to the file that says it.
        file = Path(span.file).parent / file
    try:
        load_weights(model, file, prefix=prefix)
    except SegError as error:
        raise SegError(error.diagnostics, sources) from error
