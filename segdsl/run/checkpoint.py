"""Checkpoints of a run: the best and the last weights, the state to go on, and how a finished run is opened again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from segdsl.diagnostics import fail
from segdsl.ir.program import Program
from segdsl.run.folder import RunFolder
from segdsl.run.state import TrainState
from segdsl.weights.files import write_tensors
from segdsl.words.keepers import Checkpoints


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


@dataclass(slots=True)
class CheckpointWriter:
    """Writes a run's checkpoints, each of them atomically: a kill at any moment leaves the old file or the new one."""

    folder: RunFolder
    rule: Checkpoints
    facts: dict[str, str]
    kept: list[float] = field(default_factory=list)

    def epoch(self, state: TrainState, value: float) -> bool:
        """Keeps what the rule asks for after an epoch; says whether it is the best so far."""
        best = self._keep_best(state, value)
        if self.rule.last:
            self.save_last(state)
        return best

    def save_last(self, state: TrainState) -> None:
        """Writes the last weights, and all that is needed to go on after any step: that file needs no other."""
        write_checkpoint(self.folder.last, state.shipped(), self.facts_of(state))
        write_checkpoint(self.folder.state, state.tensors(), {**self.facts, **state.facts()})

    def facts_of(self, state: TrainState) -> dict[str, str]:
        """What is written beside weights: how far the run was, and whether they are an average (`averaged`)."""
        facts = {**self.facts, "epoch": str(state.progress.epoch), "step": str(state.progress.step)}
        if state.average is not None:
            word = state.average.word
            facts["averaged"] = f"EMA(decay = {word.decay}, ramp = {word.ramp})"
        return facts

    def _keep_best(self, state: TrainState, value: float) -> bool:
        value = -math.inf if math.isnan(value) else value
        rank = sum(value <= other for other in self.kept)
        if rank >= self.rule.best:
            return False
        for place in range(min(len(self.kept), self.rule.best - 1), rank, -1):
            self.best_path(place - 1).replace(self.best_path(place))
        write_checkpoint(self.best_path(rank), state.shipped(), {**self.facts_of(state), "value": repr(value)})
        self.kept.insert(rank, value)
        del self.kept[self.rule.best :]
        return rank == 0

    def best_path(self, rank: int) -> Path:
        """`best.safetensors`, `best-2.safetensors`, …"""
        return self.folder.best if rank == 0 else self.folder.checkpoints / f"best-{rank + 1}.safetensors"


def write_checkpoint(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Writes a checkpoint, whole or not at all. Raises SegError (`checkpoint-not-written`) when the disk refuses it."""
    try:
        write_tensors(path, tensors, metadata)
    except OSError as error:
        raise fail(
            "checkpoint-not-written",
            f"the checkpoint `{path.name}` could not be written",
            "see that the disk has room and that the run folder may be written",
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
    weights = next((p for p in (folder.best, folder.last) if p.is_file()), None)
    if weights is None:
        raise fail(
            "run-without-weights",
            f"the run `{path}` holds no checkpoint: it ended before its first epoch did",
            "train it again",
            path=str(path),
        )
    program = load(folder.program)
    model: Any = compile_program(program, weights="none").model
    load_weights(model, weights, graph=program.graph, exact=True)
    return Run(program, model.eval(), folder.root, weights)
