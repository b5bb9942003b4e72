"""Compilation of a checked program to a model with weights."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass

import torch
from torch import fx

from segdsl.diagnostics import SegError
from segdsl.ir.graph import Graph
from segdsl.ir.program import Program
from segdsl.lower.graph import build_module
from segdsl.passes import run_passes
from segdsl.weights.fetch import Watcher
from segdsl.weights.load import load_weights
from segdsl.weights.report import LoadReport
from segdsl.weights.sources import (
    LocalWeights,
    attach_source_span,
    collect_weight_requests,
    locate_weights,
    read_lock_digests,
)


@dataclass(frozen=True)
class CompileResult:
    """A program and its model, which maps normalized images (N, C, H, W) to logits (N, classes, H, W).

    ``load_reports`` describes what was loaded from each weight file.
    """

    program: Program
    model: fx.GraphModule
    load_reports: tuple[LoadReport, ...] = ()

    def find_random_parts(self) -> dict[str, int]:
        """Return the largest parts of the model that got no weights from files, with their numbers of tensors.

        Excludes tensors that a file skipped on purpose, which its report mentions.
        """
        mentioned = {key for report in self.load_reports for finding in report.findings for key in finding.keys}
        filled = {key for report in self.load_reports for key in report.keys_loaded}
        return _find_unfilled_parts(
            "", [key for key in self.model.state_dict() if key not in mentioned - filled], filled
        )


def _find_unfilled_parts(part: str, keys: Sequence[str], keys_from_files: Set[str]) -> dict[str, int]:
    """Return the largest parts below ``part`` none of whose ``keys`` was loaded, with their numbers of tensors."""
    if not any(key in keys_from_files for key in keys):
        # Older files lack the counters of batch norms, which have no effect: a part with only these is no finding.
        has_weights = any(not key.endswith(".num_batches_tracked") for key in keys)
        return {part: len(keys)} if has_weights else {}
    if all(key in keys_from_files for key in keys):
        return {}
    depth = part.count(".") + 1 if part else 0
    below: dict[str, list[str]] = {}
    for key in keys:
        below.setdefault(".".join(key.split(".")[: depth + 1]), []).append(key)
    return {
        name: n
        for child, inside in below.items()
        for name, n in _find_unfilled_parts(child, inside, keys_from_files).items()
    }


def compile_program(
    program: Program, weights: str | None = None, outputs: Sequence[str] = (), watcher: Watcher | None = None
) -> CompileResult:
    """Build the model of ``program`` on the CPU, in training mode.

    ``weights`` is a source for the whole model, `"none"` for random weights, or None for the `weights` section of the
    program. Missing files are downloaded, with progress reported to ``watcher``. With ``outputs`` the model returns a
    dict from these paths to their tensors.

    Raises SegError: `unknown-output`, `weights-source`, and the errors of :func:`~segdsl.weights.sources.locate` and
    :func:`~segdsl.weights.load.load_weights`.
    """
    sources = {name: source.text for name, source in program.sources.items()}
    model = build_module(_reduce_graph(program.graph, outputs), sources, outputs)
    try:
        # A lock file pins the weights that the program names, not others that the caller asks for.
        expected = read_lock_digests(program) if weights is None else {}
        located = [
            locate_weights(w, watcher, expected.get(w.part or "model", ""))
            for w in collect_weight_requests(program, weights)
        ]
        loaded = tuple(_load_weights_from(model, program, source) for source in located)
    except SegError as error:
        raise SegError(error.diagnostics, {**sources, **error.sources}) from error
    return CompileResult(program, model, loaded)


def build_unfilled_model(program: Program) -> fx.GraphModule:
    """Build the model of ``program`` with zeros for weights, which a checkpoint of the same program is to replace.

    Draws no random numbers.
    """
    sources = {name: source.text for name, source in program.sources.items()}
    # On the meta device, initializing costs nothing.
    with torch.device("meta"):
        model = build_module(_reduce_graph(program.graph, ()), sources)
    model.to_empty(device="cpu")
    for tensor in model.state_dict().values():
        tensor.zero_()
    return model


def _reduce_graph(graph: Graph, outputs: Sequence[str]) -> Graph:
    """Run the passes on a graph without removing or merging the nodes that ``outputs`` names."""
    paths = {**{node.path: node.path for node in graph.nodes}, **graph.names}
    # Passes preserve exactly the outputs of a graph.
    extra = {path: paths[path] for path in outputs if path in paths}
    return run_passes(graph.model_copy(update={"outputs": {**graph.outputs, **extra}}))


def _load_weights_from(model: fx.GraphModule, program: Program, located: LocalWeights) -> LoadReport:
    request = located.request
    try:
        report = load_weights(
            model,
            located.path,
            part=request.part,
            graph=program.graph,
            classes=() if _has_placeholder_classes(program) else program.classes,
            adapt=program.adapt_weights,
        )
    except SegError as error:
        raise attach_source_span(error, request.span) from error
    return report.with_source(request.source.text, located.sha256)


def _has_placeholder_classes(program: Program) -> bool:
    """Return whether the class names are placeholders (`--classes 4`), which say nothing about those of a file."""
    return program.classes == tuple(f"class_{number}" for number in range(len(program.classes)))
