"""Restoring an interrupted run from its files: finding the newest intact state, and repairing the best weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from segdsl.diagnostics import SegError, fail
from segdsl.run.engine.state import TrainState
from segdsl.run.folder.checkpoint import COUNTS_KIND, BestEpoch, CheckpointWriter, report_write_errors
from segdsl.run.folder.layout import RunFolder
from segdsl.run.folder.log import EpochRow
from segdsl.scores.confusion import Confusion
from segdsl.text.json import parse_json
from segdsl.weights.files import read_weights

BEST_FILE = re.compile(r"best(-\d+|-of-\d+)?\.safetensors")
"""Names of best weights: by rank, and those displaced while a resumed run repeats an epoch."""


@dataclass(frozen=True, slots=True)
class StateFile:
    """A training state read from disk; ``corrupt_paths`` are newer ones that cannot be read.

    Its ``tensors`` are cleared once they are restored, to free the memory.
    """

    path: Path
    tensors: dict[str, Tensor]
    facts: Mapping[str, str]
    corrupt_paths: tuple[Path, ...] = ()

    @property
    def step(self) -> int:
        """Number of optimizer steps made."""
        return int(self.facts["step"])

    @property
    def epoch(self) -> int:
        """Number of epochs completed."""
        return int(self.facts["epoch"])

    @property
    def seconds(self) -> float:
        """How long the run had taken."""
        return float(parse_json(self.facts["course"])["seconds"])


def find_newest_state(folder: RunFolder) -> StateFile | None:
    """Return the newest intact state of a run; None if none was ever written.

    Raises SegError (`checkpoint-damaged`) if all are damaged.
    """
    damaged: list[Path] = []
    for path in (folder.state, folder.previous):
        if not path.is_file():
            continue
        try:
            tensors, facts = read_weights(path)
            parse_json(facts["course"])  # a file of another kind has none
        except (SegError, KeyError, ValueError):
            damaged.append(path)
            continue
        return StateFile(path, tensors, facts, tuple(damaged))
    if damaged:
        names = " and ".join(f"`{path.name}`" for path in damaged)
        weights = next((p for p in (folder.last, folder.best) if p.is_file()), None)
        start = f"start a new run from its weights: `--weights {weights} --out NEW`" if weights else "start a new run"
        raise fail(
            "checkpoint-damaged",
            f"cannot resume: every saved state is damaged ({names})",
            f"restore one of these files from a copy, or {start}",
            path=str(folder.checkpoints),
        )
    return None


def restore_run(state_file: StateFile, state: TrainState, checkpoints: CheckpointWriter) -> None:
    """Restore a training state and the run's checkpoint records. Raises SegError as writing a checkpoint does."""
    counts = {key: state_file.tensors.pop(key) for key in list(state_file.tensors) if key.startswith(f"{COUNTS_KIND}:")}
    try:
        state.restore_state(state_file.tensors, state_file.facts)
    except (RuntimeError, KeyError, ValueError) as error:
        message = f"`{state_file.path.name}` was not saved by this program"
        help = "restore the file that this run wrote from a copy, or start a new run"
        raise fail("checkpoint-damaged", message, help, path=str(state_file.path)) from error
    state_file.tensors.clear()
    with report_write_errors(checkpoints.folder.state):
        # Otherwise the next write would move the damaged file over the only intact one.
        if state_file.corrupt_paths:
            state_file.path.replace(checkpoints.folder.state)
    checkpoints.state_position = state_file.epoch, state_file.step
    course = parse_json(state_file.facts["course"])
    for name, facts in course["rows"].items():
        # No mask is counted with this ignore value: the counts are replaced at once.
        confusion = Confusion(parse_json(state_file.facts["classes"]), 255)
        confusion.counts = counts[f"{COUNTS_KIND}:{name}"].numpy()
        checkpoints.rows[name] = EpochRow(confusion=confusion, **facts)
    arrange_best_weights(checkpoints, state, [BestEpoch(*entry) for entry in course["kept"]])


def arrange_best_weights(checkpoints: CheckpointWriter, state: TrainState, best_epochs: list[BestEpoch]) -> None:
    """Move the best weights to the places that the state records; write those that are missing.

    Weights of epochs that the state does not have, which the resumed run repeats, are set aside until the run ends.
    """
    # A kill may come between any two writes of a run. Whatever was still to be written of the epoch that had just ended
    # is rebuilt from the state. Weights displaced by a later epoch are gone, but that epoch will be repeated.
    files = dict(_collect_best_files(checkpoints.folder))
    fresh = state.progress.epoch if not state.progress.inside else 0
    checkpoints.best_epochs = [entry for entry in best_epochs if entry.epoch in files or entry.epoch == fresh]
    # `train.keep` may ask for fewer now: the worst are dropped.
    del checkpoints.best_epochs[checkpoints.policy.best :]
    places = {entry.epoch: checkpoints.get_best_path(rank) for rank, entry in enumerate(checkpoints.best_epochs)}
    with report_write_errors(checkpoints.folder.best):
        _move_best_files(files, places, checkpoints.folder, state.progress.epoch)
    for rank, entry in enumerate(checkpoints.best_epochs):
        if entry.epoch not in files:
            checkpoints.write_best(state, rank)
    if fresh and checkpoints.policy.last and _read_epoch(checkpoints.folder.last) != fresh:
        checkpoints.write_weights(checkpoints.folder.last, state)


def _move_best_files(files: dict[int, Path], places: Mapping[int, Path], folder: RunFolder, last_epoch: int) -> None:
    """Move the files of best weights, by epoch, to their places; delete those that have none up to ``last_epoch``."""
    for epoch, path in list(files.items()):
        if epoch not in places and epoch <= last_epoch:
            path.unlink()
        elif path != places.get(epoch):
            files[epoch] = path.replace(folder.get_displaced_path(epoch))
    # Only now, when no place is occupied by the weights of another rank.
    for epoch, place in places.items():
        if epoch in files and files[epoch] != place:
            files[epoch].replace(place)


def _collect_best_files(folder: RunFolder) -> list[tuple[int, Path]]:
    """Return the readable files of best weights with their epochs; delete the others, whose epoch is unknown."""
    found: list[tuple[int, Path]] = []
    for path in sorted(p for p in folder.checkpoints.iterdir() if BEST_FILE.fullmatch(p.name)):
        epoch = _read_epoch(path)
        if epoch is not None and epoch not in dict(found):  # a second file of an epoch was displaced and then repeated
            found.append((epoch, path))
        else:
            with report_write_errors(path):
                path.unlink()
    return found


def _read_epoch(path: Path) -> int | None:
    try:
        return int(read_weights(path)[1]["epoch"])
    except (SegError, KeyError, ValueError):
        return None
