"""Checkpoints of a run: best and last weights, the training state, and opening a finished run."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from segdsl.diagnostics import fail
from segdsl.ir.families import Keeper
from segdsl.ir.program import Program
from segdsl.lang.resolve import render_value
from segdsl.run.engine.clock import Clock
from segdsl.run.engine.state import TrainState
from segdsl.run.folder.layout import RunFolder
from segdsl.run.folder.log import EpochRow
from segdsl.weights.files import write_tensors

COUNTS_KIND = "counts"
"""Prefix of the confusion counts of an epoch's row among the tensors of a state file."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run opened for evaluation, prediction or export; ``model`` is in eval mode."""

    program: Program
    model: nn.Module
    folder: Path
    weights: Path

    @property
    def classes(self) -> tuple[str, ...]:
        return self.program.classes


class BestEpoch(NamedTuple):
    """One of the best epochs, from 1, and its monitored value, larger being better; nan is stored as -inf."""

    epoch: int
    value: float


@dataclass(slots=True)
class CheckpointWriter:
    """Writes a run's checkpoints atomically: a kill at any moment leaves the old file or the new one.

    ``best_epochs`` are the best epochs, best first, and ``rows`` the log rows of the best and the last epoch.
    """

    folder: RunFolder
    policy: Keeper
    facts: dict[str, str]
    clock: Clock | None = None
    best_epochs: list[BestEpoch] = field(default_factory=list)
    rows: dict[str, EpochRow] = field(default_factory=dict)
    state_position: tuple[int, int] | None = None
    """Epoch and step of the state on disk."""

    def save_epoch(self, state: TrainState, row: EpochRow) -> bool:
        """Write the checkpoints that are due after an epoch.

        Return whether the epoch is the best so far, and has found more than one class.
        """
        # An epoch that has lost all classes but one is never better than one that has not, whatever its score.
        is_lost = row.confusion.find_sole_class() is not None
        value = -math.inf if is_lost else state.progress.history[-1]
        entry = BestEpoch(state.progress.epoch, -math.inf if math.isnan(value) else value)
        rank = sum(entry.value <= other.value for other in self.best_epochs)
        # `<=` above: of two equal epochs the earlier one stays ahead.
        self.best_epochs.insert(rank, entry)
        del self.best_epochs[self.policy.best :]
        self.rows["last"] = row
        if rank == 0:
            self.rows["best"] = row
        # The state is written before the best weights: what a kill then prevents can be rebuilt from the state.
        if self.policy.last:
            self.save_last(state)
        elif self.policy.can_resume and not self.folder.state.is_file():
            self.save_state(state)  # else a kill would leave the best weights, but no state to resume from
        if rank < self.policy.best:
            self._insert_best(state, rank)
        return rank == 0 and not is_lost

    def save_last(self, state: TrainState) -> None:
        """Write the last weights and the training state."""
        self.save_state(state)
        self.write_weights(self.folder.last, state)

    def save_state(self, state: TrainState) -> None:
        """Write everything needed to resume; the state before it is kept in case this file is lost."""
        seconds = self.clock.total_seconds if self.clock is not None else 0.0
        course = {
            "seconds": seconds,
            "kept": self.best_epochs,
            "rows": {name: row.collect_facts() for name, row in self.rows.items()},
        }
        counts = {f"{COUNTS_KIND}:{name}": torch.tensor(row.confusion.counts) for name, row in self.rows.items()}
        facts = {**self.facts, **state.collect_facts(), "course": json.dumps(course)}
        write_checkpoint(self.folder.state, {**state.collect_tensors(), **counts}, facts, self.folder.previous)
        self.state_position = state.progress.epoch, state.progress.step

    def write_weights(self, path: Path, state: TrainState, **facts: str) -> None:
        """Write the weights that are deployed: the average if there is one."""
        write_checkpoint(path, state.collect_weights(), {**self.collect_facts(state), **facts})

    def collect_facts(self, state: TrainState) -> dict[str, str]:
        """Return the metadata of weights: how far the run was, and whether they are an average (`averaged`)."""
        facts = {**self.facts, "epoch": str(state.progress.epoch), "step": str(state.progress.step)}
        if state.average is not None:
            facts["averaged"] = render_value(state.average.word)
        return facts

    def _insert_best(self, state: TrainState, rank: int) -> None:
        """Write the weights of an epoch at its rank among the best; move lower ranks down."""
        with report_write_errors(self.get_best_path(rank)):
            # From the last rank up, so that no file is overwritten before it has moved.
            for place in range(len(self.best_epochs) - 1, rank, -1):
                with contextlib.suppress(FileNotFoundError):
                    self.get_best_path(place - 1).replace(self.get_best_path(place))
        self.write_best(state, rank)

    def write_best(self, state: TrainState, rank: int) -> None:
        """Write the weights of the epoch that has just ended as those of ``rank``."""
        self.write_weights(self.get_best_path(rank), state, value=repr(self.best_epochs[rank].value))

    def get_best_path(self, rank: int) -> Path:
        """Return the path of a rank: `best.safetensors`, `best-2.safetensors`, …"""
        return self.folder.best if rank == 0 else self.folder.checkpoints / f"best-{rank + 1}.safetensors"

    def finish_run(self, state: TrainState) -> None:
        """Bring the state on disk up to date, and remove the files that only an interrupted run needs."""
        # A stale state would make a later `--resume` train the last epochs a second time.
        position = state.progress.epoch, state.progress.step
        if self.state_position != position and (self.policy.can_resume or self.folder.state.is_file()):
            self.save_state(state)
        needless = [
            self.folder.previous,
            *self.folder.find_displaced_paths(),
            *([] if self.policy.last else [self.folder.last]),
        ]
        for path in needless:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def write_checkpoint(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], previous: Path | None = None
) -> None:
    """Write a checkpoint completely or not at all; the file it replaces becomes ``previous`` if that is given.

    Raises SegError (`checkpoint-not-written`) if the disk refuses it.
    """
    with report_write_errors(path):
        write_tensors(path, tensors, metadata, previous)


@contextmanager
def report_write_errors(path: Path) -> Iterator[None]:
    """Turn OSErrors of writing a checkpoint into SegError (`checkpoint-not-written`)."""
    try:
        yield
    except OSError as error:
        raise fail(
            "checkpoint-not-written",
            f"cannot write the checkpoint `{path.name}`: {(error.strerror or 'disk error').lower()}",
            "free disk space or make the run folder writable, then resume the run with `--resume`",
            path=str(path),
        ) from error


def find_run_folder(path: str | Path) -> RunFolder:
    """Return the folder of an existing run. Raises SegError (`run-not-found`)."""
    folder = RunFolder(Path(path))
    if not folder.program.is_file():
        raise fail(
            "run-not-found",
            f"`{path}` is not a run folder: it has no `program.seg`",
            "pass the run folder that `segdsl train` printed, such as `runs/quickstart-1`",
            path=str(path),
        )
    return folder


def open_run(path: str | Path, program: Program | None = None) -> Run:
    """Open a run from its folder: its program, and the model with the best weights, or the last ones if there are none.

    ``program`` is that of the run, if it is in memory. Raises SegError (`run-not-found`, `run-without-weights`, and the
    errors of loading its program and weights).
    """
    from segdsl.lang.program import load
    from segdsl.lower.compiled import build_unfilled_model
    from segdsl.weights.load import load_checkpoint

    folder = find_run_folder(path)
    weights = next((p for p in (folder.best, folder.last, *folder.find_displaced_paths()) if p.is_file()), None)
    if weights is None:
        raise fail(
            "run-without-weights",
            f"the run `{path}` has no checkpoint: it ended before its first epoch was complete",
            f"resume it: `segdsl train {path} --resume`",
            path=str(path),
        )
    program = program or load(folder.program)
    # The checkpoint replaces all weights, so none are drawn or loaded from the program's own sources first.
    model: Any = build_unfilled_model(program)
    load_checkpoint(model, weights, program.graph)
    return Run(program, model.eval(), folder.root, weights)
