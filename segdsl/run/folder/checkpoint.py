"""Checkpoints of a run: the best and the last weights, the state to go on, and how a finished run is opened again."""

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
from segdsl.ir.program import Program
from segdsl.run.engine.clock import Clock
from segdsl.run.engine.state import TrainState
from segdsl.run.folder.layout import RunFolder
from segdsl.run.folder.log import EpochRow
from segdsl.weights.files import write_tensors
from segdsl.words.checkpoint_policies import Checkpoints

COUNTS = "counts"
"""The kind under which the counts of an epoch's row stand among the tensors of a state."""


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


class Kept(NamedTuple):
    """One of the best epochs, from 1, and its monitored value, larger being better; nan is kept as -inf."""

    epoch: int
    value: float


@dataclass(slots=True)
class CheckpointWriter:
    """Writes a run's checkpoints, each of them atomically: a kill at any moment leaves the old file or the new one.

    ``kept`` are the best epochs, the best first, ``rows`` what is known of the best and of the last one. All that is
    needed to go on is written first: what a kill then keeps from being written is made from it.
    """

    folder: RunFolder
    rule: Checkpoints
    facts: dict[str, str]
    clock: Clock | None = None
    kept: list[Kept] = field(default_factory=list)
    rows: dict[str, EpochRow] = field(default_factory=dict)
    saved: tuple[int, int] | None = None
    """Epoch and step of the state on disk."""

    def epoch(self, state: TrainState, row: EpochRow) -> bool:
        """Keeps what the rule asks for after an epoch; says whether it is the best so far."""
        value = state.progress.history[-1]
        entry = Kept(state.progress.epoch, -math.inf if math.isnan(value) else value)
        rank = sum(entry.value <= other.value for other in self.kept)
        self.kept.insert(rank, entry)
        del self.kept[self.rule.best :]
        self.rows["last"] = row
        if rank == 0:
            self.rows["best"] = row
        if self.rule.last:
            self.save_last(state)
        elif self.rule.keeps_state and not self.folder.state.is_file():
            self.save_state(state)  # else a kill would leave the best weights, and nothing to go on from
        if rank < self.rule.best:
            self._put_best(state, rank)
        return rank == 0

    def save_last(self, state: TrainState) -> None:
        """Writes the last weights, and all that is needed to go on after any step: that file needs no other."""
        self.save_state(state)
        self.write_weights(self.folder.last, state)

    def save_state(self, state: TrainState) -> None:
        """Writes all that is needed to go on; the file before it stays, in case that this one is lost."""
        seconds = self.clock.seconds if self.clock is not None else 0.0
        course = {
            "seconds": seconds,
            "kept": self.kept,
            "rows": {name: row.facts() for name, row in self.rows.items()},
        }
        counts = {f"{COUNTS}:{name}": torch.tensor(row.confusion.counts) for name, row in self.rows.items()}
        facts = {**self.facts, **state.facts(), "course": json.dumps(course)}
        write_checkpoint(self.folder.state, {**state.tensors(), **counts}, facts, self.folder.previous)
        self.saved = state.progress.epoch, state.progress.step

    def write_weights(self, path: Path, state: TrainState, **facts: str) -> None:
        """Writes the weights that are shipped."""
        write_checkpoint(path, state.shipped(), {**self.facts_of(state), **facts})

    def facts_of(self, state: TrainState) -> dict[str, str]:
        """What is written beside weights: how far the run was, and whether they are an average (`averaged`)."""
        facts = {**self.facts, "epoch": str(state.progress.epoch), "step": str(state.progress.step)}
        if state.average is not None:
            word = state.average.word
            facts["averaged"] = f"EMA(decay = {word.decay}, ramp = {word.ramp})"
        return facts

    def _put_best(self, state: TrainState, rank: int) -> None:
        """Writes the weights of an epoch as one of the best; those below move down."""
        with refused(self.best_path(rank)):
            for place in range(len(self.kept) - 1, rank, -1):
                with contextlib.suppress(FileNotFoundError):
                    self.best_path(place - 1).replace(self.best_path(place))
        self.write_best(state, rank)

    def write_best(self, state: TrainState, rank: int) -> None:
        """Writes the weights of the epoch that has just ended as those of that rank."""
        self.write_weights(self.best_path(rank), state, value=repr(self.kept[rank].value))

    def best_path(self, rank: int) -> Path:
        """`best.safetensors`, `best-2.safetensors`, …"""
        return self.folder.best if rank == 0 else self.folder.checkpoints / f"best-{rank + 1}.safetensors"

    def finish(self, state: TrainState) -> None:
        """The run is over: what is on disk says so, else going on would make its last epochs again; what only an
        interrupted run needs is removed."""
        here = state.progress.epoch, state.progress.step
        if self.saved != here and (self.rule.keeps_state or self.folder.state.is_file()):
            self.save_state(state)
        needless = [self.folder.previous, *self.folder.set_aside(), *([] if self.rule.last else [self.folder.last])]
        for path in needless:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def write_checkpoint(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], previous: Path | None = None
) -> None:
    """Writes a checkpoint, whole or not at all; the one that was there becomes ``previous`` where that is given.

    Raises SegError (`checkpoint-not-written`) when the disk refuses it.
    """
    with refused(path):
        write_tensors(path, tensors, metadata, previous)


@contextmanager
def refused(path: Path) -> Iterator[None]:
    """Turns what the disk refuses of a checkpoint into SegError (`checkpoint-not-written`)."""
    try:
        yield
    except OSError as error:
        raise fail(
            "checkpoint-not-written",
            f"the checkpoint `{path.name}` could not be written: {(error.strerror or 'the disk refuses it').lower()}",
            "see that the disk has room and that the run folder may be written, then go on with `--resume`",
            path=str(path),
        ) from error


def run_folder(path: str | Path) -> RunFolder:
    """The folder of a run that was begun. Raises SegError (`run-not-found`)."""
    folder = RunFolder(Path(path))
    if not folder.program.is_file():
        raise fail(
            "run-not-found",
            f"`{path}` is no run folder: it has no `program.seg`",
            "name the folder that `segdsl train` printed, such as `runs/quickstart-1`",
            path=str(path),
        )
    return folder


def open_run(path: str | Path) -> Run:
    """A run from its folder: the program as it ran, and the model with the best weights (the last, where none is best).

    Raises SegError (`run-not-found`, `run-without-weights`, and whatever the program or the weights are at fault for).
    """
    from segdsl.lang.program import load
    from segdsl.lower.compiled import compile_program
    from segdsl.weights.load import load_weights

    folder = run_folder(path)
    weights = next((p for p in (folder.best, folder.last, *folder.set_aside()) if p.is_file()), None)
    if weights is None:
        raise fail(
            "run-without-weights",
            f"the run `{path}` holds no checkpoint: it ended before its first epoch did",
            f"go on with it: `segdsl train {path} --resume`",
            path=str(path),
        )
    program = load(folder.program)
    model: Any = compile_program(program, weights="none").model
    load_weights(model, weights, graph=program.graph, exact=True)
    return Run(program, model.eval(), folder.root, weights)
