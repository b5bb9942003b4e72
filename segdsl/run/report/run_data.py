"""All that a report is made of, gathered from a run folder and its data; what cannot be had is said instead."""

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
    """What is known of a run. ``index`` and ``ranking`` are None where ``missing`` says why; ``machine`` and ``lock``
    are empty where the run has none; ``resumptions`` are the times at which it went on (see `resume`)."""

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
        """The name of the run: that of its folder."""
        return self.folder.root.resolve().name

    @property
    def written_in(self) -> str:
        """The files of its author that the program was made from."""
        found = self.lock.get("sources")
        named = found if isinstance(found, dict) else {}
        sources = [name for name in named if not name.startswith(("std/", "--set"))]
        return ", ".join(sources) or self.folder.program.name

    @property
    def class_weights(self) -> dict[str, float]:
        """The weights of the classes that the loss took from the data, by name; empty where it did not."""
        found = self.lock.get("class_weights")
        named = found if isinstance(found, dict) else {}
        return {name: w for name, w in named.items() if isinstance(w, float) and name in self.classes}

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes by id."""
        return self.program.classes

    @property
    def best(self) -> int | None:
        """The place in ``history`` of the epoch that the best weights are of."""
        if self.best_epoch in self.history.epochs:
            return self.history.epochs.index(self.best_epoch)
        return self.history.best(self.program.train.monitor)

    @property
    def background(self) -> int:
        """The id of the class that the scores of the foreground leave out."""
        return background_of(self.classes, self.program.data.background)

    @cached_property
    def parts(self) -> Part:
        """The model by its parts."""
        return parts_of(self.program.graph, self.program.train.freeze)


def gather(root: str | Path, data: str | Path | None = None) -> Material:
    """Reads the run in ``root``, and scores its best weights (the last, where none is best) on its validation subset.

    ``data`` is the folder of the data, by default that of the run, which may be gone since. Raises SegError
    (`run-not-found`, what the program is at fault for, and what a folder that was given is).
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
    """The data of a run. Raises SegError where it is not there, or has other classes by now (`classes-differ`)."""
    index = open_data(program, data)
    if index.classes != program.classes:
        count = f"{len(index.classes)} of them, the run {len(program.classes)}"
        message = f"the data set has other classes than the run (the data set has {count})"
        raise fail("classes-differ", message, "name the data of the run with `--data ROOT`", path=str(index.root))
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
    """The epoch that a checkpoint says it is of."""
    try:
        with safe_open(weights, framework="pt") as file:
            return int((file.metadata() or {})["epoch"])
    except Exception:  # safetensors raises an error of its own for each way to be damaged
        return None
