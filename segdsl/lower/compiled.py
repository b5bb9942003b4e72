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
from segdsl.lower.weights import LoadReport, load_weights
from segdsl.passes import run_passes

LATER = ("otx:", "hf:", "hub:", "timm:", "torchvision:", "http:", "https:")
"""Beginnings of the weight sources that a later version fetches."""


@dataclass(frozen=True)
class Compiled:
    """A program and the model it describes: (N, 3, H, W) normalised -> (N, classes, H, W) logits.

    ``loaded`` says what was read from each weight file.
    """

    program: Program
    model: fx.GraphModule
    loaded: tuple[LoadReport, ...] = ()


def compile_program(program: Program, weights: str | None = None, outputs: Sequence[str] = ()) -> Compiled:
    """Builds the model of ``program``, in training mode and on the CPU.

    ``weights`` is a file for the whole model, `"none"` for a random start, or None for what the program's `weights`
    section says. With ``outputs`` the model returns a dict of the tensors at these paths. Raises SegError
    (`unknown-output`, `weights-source-later` and what :func:`~segdsl.lower.weights.load_weights` raises).
    """
    sources = {name: source.text for name, source in program.sources.items()}
    model = build(_reduced(program.graph, outputs), sources, outputs)
    wanted = [("model", weights, None)]
    if weights is None:
        wanted = [(part, source, program.spans.get(f"weights.{part}")) for part, source in program.weights.items()]
    loaded = [
        _load(model, program.graph, source, "" if part == "model" else part, span, sources)
        for part, source, span in wanted
        if source is not None and source != "none"
    ]
    return Compiled(program, model, tuple(loaded))


def _reduced(graph: Graph, outputs: Sequence[str]) -> Graph:
    """The graph after the passes, in which the nodes that ``outputs`` name are kept as outputs are."""
    known = {**{node.path: node.path for node in graph.nodes}, **graph.names}
    wanted = {path: known[path] for path in outputs if path in known}
    return run_passes(graph.model_copy(update={"outputs": {**graph.outputs, **wanted}}))


def _load(
    model: fx.GraphModule, graph: Graph, source: str, prefix: str, span: Span | None, sources: dict[str, str]
) -> LoadReport:
    if source.startswith(LATER):
        message = f"`{source}`: published weights are fetched by a later version of segdsl"
        remedy = "give the path of a file, or `--weights none` for a random start"
        raise SegError([Diagnostic("weights-source-later", message, remedy, span=span)], sources)
    file = Path(source)
    if span is not None and not file.is_absolute():
        # Written in a program: relative to the file that says it.
        file = Path(span.file).parent / file
    try:
        return load_weights(model, file, prefix=prefix, graph=graph)
    except SegError as error:
        raise SegError(error.diagnostics, sources) from error
