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
from segdsl.ir.parts import Part, build_parts
from segdsl.ir.program import Program
from segdsl.lang.program import load
from segdsl.run.engine.machine_faults import diagnose_machine_faults
from segdsl.run.engine.setup import build_network, pick_device
from segdsl.run.folder.checkpoint import find_run_folder, open_run
from segdsl.run.folder.layout import RunFolder, read_json_object
from segdsl.run.folder.resume import read_resumptions
from segdsl.run.program_data import open_data
from segdsl.run.report.best_worst import ImageRanking, build_validation_loader, rank_images
from segdsl.run.report.history import History, read_history
from segdsl.scores.confusion import find_background


@dataclass(frozen=True)
class RunData:
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
    ranking: ImageRanking | None
    missing: str

    @property
    def name(self) -> str:
        """The name of the run, which is that of its folder."""
        return self.folder.root.resolve().name

    @property
    def source_files(self) -> str:
        """The user's source files of the program, separated by commas."""
        found = self.lock.get("sources")
        names = found if isinstance(found, dict) else {}
        # Neither the standard library nor overrides from the command line are files of the user.
        sources = [name for name in names if not name.startswith(("std/", "--set", "<"))]
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
    def best_index(self) -> int | None:
        """The index in ``history`` of the epoch of the best weights."""
        # The checkpoint decides; a log alone gives the best monitored value.
        if self.best_epoch in self.history.epochs:
            return self.history.epochs.index(self.best_epoch)
        return self.history.find_best_index(self.program.train.monitor)

    @property
    def background(self) -> int:
        """The id of the class that is excluded from foreground scores."""
        return find_background(self.classes, self.program.data.background)

    @cached_property
    def parts(self) -> Part:
        """The model as a tree of its parts."""
        return build_parts(self.program.graph, self.program.train.freeze)


def collect_run_data(root: str | Path, data: str | Path | None = None, program: Program | None = None) -> RunData:
    """Read the run in ``root`` and evaluate its best weights (else its last) on its validation subset.

    ``data`` is the dataset folder, by default that of the run; ``program`` is the run's, read from its folder if
    omitted. Raises SegError (`run-not-found`, and the errors of the program and of ``data``).
    """
    folder = find_run_folder(root)
    program = program or load(folder.program)
    index, ranking, missing = None, None, ""
    stats: Mapping[str, SubsetStats] = {}
    try:
        index = _open_matching_data(program, data)
        stats = count_subsets(index.root, index.labels, index.subsets, index.ignore)
        ranking = _rank_run_images(folder, program, index)
    except SegError as error:
        # A folder that the user passed has to be right; that of the run may be gone by now.
        if data is not None and index is None:
            raise
        missing = _format_reason(error)
    return RunData(
        program,
        folder,
        read_history(folder.metrics),
        _read_epoch(folder.best),
        read_json_object(folder.machine),
        read_resumptions(folder),
        read_json_object(folder.lock),
        index,
        stats,
        ranking,
        missing,
    )


def _open_matching_data(program: Program, data: str | Path | None) -> Index:
    """Open the dataset of a run. Raises SegError if it is missing, or has other classes now (`classes-differ`)."""
    index = open_data(program, data)
    if index.classes != program.classes:
        counts = f"{len(index.classes)} in the dataset, {len(program.classes)} in the run"
        message = f"the dataset has other classes than the run ({counts})"
        raise fail("classes-differ", message, "pass the dataset of the run with `--data ROOT`", path=str(index.root))
    return index


def _rank_run_images(folder: RunFolder, program: Program, index: Index) -> ImageRanking:
    run = open_run(folder.root, program)
    network = build_network(run.program, run.model, pick_device())
    with diagnose_machine_faults():
        return rank_images(network, build_validation_loader(run.program, index), run.classes, index.ignore)


def _format_reason(error: SegError) -> str:
    first = error.diagnostics[0]
    return f"{first.message} ({first.help})"


def _read_epoch(weights: Path) -> int | None:
    """Return the epoch recorded in a checkpoint, or None."""
    try:
        with safe_open(weights, framework="pt") as file:
            return int((file.metadata() or {})["epoch"])
    except Exception:
        # safetensors raises a different error for each kind of damage.
        return None
