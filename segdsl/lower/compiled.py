"""From a checked program to a model with weights."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass

from torch import fx

from segdsl.diagnostics import SegError
from segdsl.ir.graph import Graph
from segdsl.ir.program import Program
from segdsl.lower.graph import build
from segdsl.passes import run_passes
from segdsl.weights.fetch import Watcher
from segdsl.weights.load import load_weights
from segdsl.weights.report import LoadReport
from segdsl.weights.sources import Located, locate, locked_digests, placed, wanted_weights


@dataclass(frozen=True)
class Compiled:
    """A program and the model it describes: (N, 3, H, W) normalised -> (N, classes, H, W) logits.

    ``loaded`` says what was read from each weight file.
    """

    program: Program
    model: fx.GraphModule
    loaded: tuple[LoadReport, ...] = ()

    def at_random(self) -> dict[str, int]:
        """The largest parts of the model that no file filled anything of, with their tensors counted.

        What a file left as it is on purpose, which its report says, is not among them.
        """
        told = {key for report in self.loaded for finding in report.findings for key in finding.keys}
        filled = {key for report in self.loaded for key in report.loaded}
        return _unfilled("", [key for key in self.model.state_dict() if key not in told - filled], filled)


def _unfilled(part: str, keys: Sequence[str], filled: Set[str]) -> dict[str, int]:
    """The largest parts below ``part`` whose ``keys`` none is ``filled`` of; a counter is no reason to tell of one."""
    if not any(key in filled for key in keys):
        weighty = any(not key.endswith(".num_batches_tracked") for key in keys)
        return {part: len(keys)} if weighty else {}
    if all(key in filled for key in keys):
        return {}
    depth = part.count(".") + 1 if part else 0
    below: dict[str, list[str]] = {}
    for key in keys:
        below.setdefault(".".join(key.split(".")[: depth + 1]), []).append(key)
    return {name: n for child, inside in below.items() for name, n in _unfilled(child, inside, filled).items()}


def compile_program(
    program: Program, weights: str | None = None, outputs: Sequence[str] = (), watcher: Watcher | None = None
) -> Compiled:
    """Builds the model of ``program``, in training mode and on the CPU.

    ``weights`` is a source for the whole model, `"none"` for a random start, or None for what the program's `weights`
    section says; files that are not here are fetched, which ``watcher`` is told of. With ``outputs`` the model returns
    a dict of the tensors at these paths. Raises SegError (`unknown-output`, `weights-source`, and what
    :func:`~segdsl.weights.sources.locate` and :func:`~segdsl.weights.load.load_weights` raise).
    """
    sources = {name: source.text for name, source in program.sources.items()}
    model = build(_reduced(program.graph, outputs), sources, outputs)
    try:
        expected = locked_digests(program) if weights is None else {}
        located = [locate(w, watcher, expected.get(w.part or "model", "")) for w in wanted_weights(program, weights)]
        loaded = tuple(_load(model, program, source) for source in located)
    except SegError as error:
        raise SegError(error.diagnostics, {**sources, **error.sources}) from error
    return Compiled(program, model, loaded)


def _reduced(graph: Graph, outputs: Sequence[str]) -> Graph:
    """The graph after the passes, in which the nodes that ``outputs`` name are kept as outputs are."""
    known = {**{node.path: node.path for node in graph.nodes}, **graph.names}
    wanted = {path: known[path] for path in outputs if path in known}
    return run_passes(graph.model_copy(update={"outputs": {**graph.outputs, **wanted}}))


def _load(model: fx.GraphModule, program: Program, located: Located) -> LoadReport:
    wanted = located.wanted
    try:
        report = load_weights(
            model,
            located.path,
            part=wanted.part,
            graph=program.graph,
            classes=() if _are_made_up(program) else program.classes,
            adapt=program.adapt_weights,
        )
    except SegError as error:
        raise placed(error, wanted.span) from error
    return report.named(wanted.source.text, located.sha256)


def _are_made_up(program: Program) -> bool:
    """Whether the names of the classes only count them (`--classes 4`): then they say nothing about a file's."""
    return program.classes == tuple(f"class_{number}" for number in range(len(program.classes)))
