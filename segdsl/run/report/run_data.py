"""The data of a report, collected from a run folder and its dataset; missing data is recorded with its reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from safetensors import safe_open

from segdsl.data.check.index import Index
from segdsl.data.stats.survey import SubsetStats, count_subsets
from segdsl.diagnostics import SegError, fail
from segdsl.ir.parts import Part, parts_of
from segdsl.ir.program import Program
from segdsl.lang.program import load
from segdsl.run.engine.machine_faults import explained
from segdsl.run.engine.setup import network_of, pick_device
from segdsl.run.folder.checkpoint import open_run, run_folder
from segdsl.run.folder.layout import RunFolder, read_object
from segdsl.run.folder.resume import read_resumptions
from segdsl.run.program_data import open_data
from segdsl.run.report.best_worst import Ranking, ranked, validation_loader
from segdsl.run.report.history import History, read_history
from segdsl.scores.confusion import background_of


@dataclass(frozen=True)
class Material:
    """The data of a run's report.

    ``index`` and ``ranking`` may be None; ``missing`` is then the reason. ``machine`` and ``lock`` are empty if the run
    has no such file. ``resumptions`` has an entry for each time the run was resumed.
    """

    program: Program
    folder: RunFolder
    history: History
    best_epoch: int | None
    machine: Mapping[str, Any]
    resumptions: Sequence[Mapping[str, Any]]
    lock: Mapping[str, Any]
    index: Index | None
    stats: Mapping[str, SubsetStats]
    ranking: Ranking | None
    missing: str

    @property
    def name(self) -> str:
        """The name of the run, which is that of its folder."""
        return self.folder.root.resolve().name

    @property
    def written_in(self) -> str:
        """The user's source files of the program, separated by commas."""
        found = self.lock.get("sources")
        names = found if isinstance(found, dict) else {}
        # Neither the standard library nor overrides from the command line are files of the user.
        sources = [name for name in names if not name.startswith(("std/", "--set"))]
        return ", ".join(sources) or self.folder.program.name

    @property
    def class_weights(self) -> dict[str, float]:
        """The class weights that the loss derived from the dataset, by name; empty if it did not."""
        found = self.lock.get("class_weights")
        weights = found if isinstance(found, dict) else {}
        # The file may have been edited: entries that make no sense are ignored.
        return {name: w for name, w in weights.items() if isinstance(w, float) and name in self.classes}

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names in the order of their ids."""
        return self.program.classes

    @property
    def best(self) -> int | None:
        """The index in ``history`` of the epoch of the best weights."""
        # The checkpoint decides; a log alone gives the best monitored value.
        if self.best_epoch in self.history.epochs:
            return self.history.epochs.index(self.best_epoch)
        return self.history.best(self.program.train.monitor)

    @property
    def background(self) -> int:
        """The id of the class that is excluded from foreground scores."""
        return background_of(self.classes, self.program.data.background)

    @cached_property
    def parts(self) -> Part:
        """The model as a tree of its parts."""
        return parts_of(self.program.graph, self.program.train.freeze)


def gather(root: str | Path, data: str | Path | None = None) -> Material:
    """Read the run in ``root`` and evaluate its best weights (else its last) on its validation subset.

    ``data`` is the dataset folder, by default that of the run. Raises SegError (`run-not-found`, and the errors of the
    program and of ``data``).
    """
    folder = run_folder(root)
    program = load(folder.program)
    index, ranking, missing = None, None, ""
    stats: Mapping[str, SubsetStats] = {}
    try:
        index = _opened(program, data)
        stats = count_subsets(index.root, index.labels, index.subsets, index.ignore)
        ranking = _scored(folder, index)
    except SegError as error:
        # A folder that the user passed has to be right; that of the run may be gone by now.
        if data is not None and index is None:
            raise
        missing = _said(error)
    return Material(
        program,
        folder,
        read_history(folder.metrics),
        _epoch_of(folder.best),
        read_object(folder.machine),
        read_resumptions(folder),
        read_object(folder.lock),
        index,
        stats,
        ranking,
        missing,
    )


def _opened(program: Program, data: str | Path | None) -> Index:
    """Open the dataset of a run. Raises SegError if it is missing, or has other classes now (`classes-differ`)."""
    index = open_data(program, data)
    if index.classes != program.classes:
        counts = f"{len(index.classes)} in the dataset, {len(program.classes)} in the run"
        message = f"the dataset has other classes than the run ({counts})"
        raise fail("classes-differ", message, "pass the dataset of the run with `--data ROOT`", path=str(index.root))
    return index


def _scored(folder: RunFolder, index: Index) -> Ranking:
    run = open_run(folder.root)
    network = network_of(run.program, run.model, pick_device())
    with explained():
        return ranked(network, validation_loader(run.program, index), run.classes, index.ignore)


def _said(error: SegError) -> str:
    first = error.diagnostics[0]
    return f"{first.message} ({first.help})"


def _epoch_of(weights: Path) -> int | None:
    """Return the epoch recorded in a checkpoint, or None."""
    try:
        with safe_open(weights, framework="pt") as file:
            return int((file.metadata() or {})["epoch"])
    except Exception:
        # safetensors raises a different error for each kind of damage.
        return None
