"""Checkpoints of a run: the best and the last weights, the state to go on, and how a finished run is opened again."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from segdsl.diagnostics import fail
from segdsl.ir.program import Program
from segdsl.run.folder import RunFolder
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
class Progress:
    """How far a run is: finished epochs and steps, and the monitored value of each epoch (larger is better)."""

    epoch: int = 0
    step: int = 0
    history: list[float] = field(default_factory=list)


@dataclass(slots=True)
class CheckpointWriter:
    """Writes a run's checkpoints, each of them atomically: a kill at any moment leaves the old file or the new one."""

    folder: RunFolder
    rule: Checkpoints
    facts: dict[str, str]
    kept: list[float] = field(default_factory=list)

    def epoch(self, model: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress, value: float) -> bool:
        """Keeps what the rule asks for after an epoch; says whether it is the best so far."""
        best = self._keep_best(model, progress, value)
        if self.rule.last:
            self.save_last(model, optimizer, progress)
        return best

    def save_last(self, model: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
        """Writes the last weights and the state that is needed to go on from them."""
        facts = {**self.facts, "epoch": str(progress.epoch), "step": str(progress.step)}
        write_checkpoint(self.folder.last, model.state_dict(), facts)
        history = json.dumps(progress.history)
        write_checkpoint(self.folder.state, run_state(model, optimizer), {**facts, "history": history})

    def _keep_best(self, model: nn.Module, progress: Progress, value: float) -> bool:
        value = -math.inf if math.isnan(value) else value
        rank = sum(value <= other for other in self.kept)
        if rank >= self.rule.best:
            return False
        for place in range(min(len(self.kept), self.rule.best - 1), rank, -1):
            self.best_path(place - 1).replace(self.best_path(place))
        facts = {**self.facts, "epoch": str(progress.epoch), "step": str(progress.step), "value": repr(value)}
        write_checkpoint(self.best_path(rank), model.state_dict(), facts)
        self.kept.insert(rank, value)
        del self.kept[self.rule.best :]
        return rank == 0

    def best_path(self, rank: int) -> Path:
        """`best.safetensors`, `best-2.safetensors`, …"""
        return self.folder.best if rank == 0 else self.folder.checkpoints / f"best-{rank + 1}.safetensors"


def run_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's tensors by parameter name (`exp_avg:backbone.stem.weight`), and torch's random state."""
    names: dict[Any, str] = {parameter: name for name, parameter in model.named_parameters()}
    state = {"rng:torch": torch.get_rng_state()}
    for parameter, tensors in optimizer.state.items():
        for kind, value in tensors.items():
            state[f"{kind}:{names[parameter]}"] = value if isinstance(value, Tensor) else torch.tensor(value)
    return state


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
