"""From the files of a run that was left to a state that goes on: the newest whole one is found, and the best weights
are put in order."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from segdsl.diagnostics import SegError, fail
from segdsl.run.engine.state import TrainState
from segdsl.run.folder.checkpoint import COUNTS, CheckpointWriter, Kept, refused
from segdsl.run.folder.layout import RunFolder
from segdsl.run.folder.log import EpochRow
from segdsl.scores.confusion import Confusion
from segdsl.weights.files import open_weights

BEST = re.compile(r"best(-\d+|-of-\d+)?\.safetensors")
"""Names of best weights: those of their places, and of files on the way to another."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """A state as it was written; ``damaged`` are newer ones that cannot be read. Its ``tensors`` are gone once they
    were put back."""

    path: Path
    tensors: dict[str, Tensor]
    facts: Mapping[str, str]
    damaged: tuple[Path, ...] = ()

    @property
    def step(self) -> int:
        """How many optimizer steps had been made."""
        return int(self.facts["step"])

    @property
    def epoch(self) -> int:
        """How many epochs had ended."""
        return int(self.facts["epoch"])

    @property
    def seconds(self) -> float:
        """How long the run had taken."""
        return float(json.loads(self.facts["course"])["seconds"])


def newest_state(folder: RunFolder) -> Recovered | None:
    """The newest whole state of a run; None where none was ever written.

    Raises SegError (`checkpoint-damaged`) where there are only damaged ones.
    """
    damaged: list[Path] = []
    for path in (folder.state, folder.previous):
        if not path.is_file():
            continue
        try:
            tensors, facts = open_weights(path)
            json.loads(facts["course"])  # a file of another kind has none
        except (SegError, KeyError, ValueError):
            damaged.append(path)
            continue
        return Recovered(path, tensors, facts, tuple(damaged))
    if damaged:
        names = " and ".join(f"`{path.name}`" for path in damaged)
        weights = next((p for p in (folder.last, folder.best) if p.is_file()), None)
        start = f"begin a new run from its weights: `--weights {weights} --out NEW`" if weights else "begin a new run"
        raise fail(
            "checkpoint-damaged",
            f"no checkpoint to go on from is whole: {names} cannot be read",
            f"put back a copy of one of them, or {start}",
            path=str(folder.checkpoints),
        )
    return None


def restore(found: Recovered, state: TrainState, checkpoints: CheckpointWriter) -> None:
    """Puts a state back, and what the run knew beside it. Raises SegError as writing a checkpoint does."""
    counts = {key: found.tensors.pop(key) for key in list(found.tensors) if key.startswith(f"{COUNTS}:")}
    try:
        state.restore(found.tensors, found.facts)
    except (RuntimeError, KeyError, ValueError) as error:
        message = f"`{found.path.name}` is not a state of this program"
        help = "put back the file that the run wrote, or begin a new run"
        raise fail("checkpoint-damaged", message, help, path=str(found.path)) from error
    found.tensors.clear()
    with refused(checkpoints.folder.state):
        if found.damaged:  # else the next write would put the damaged one in the place of the whole
            found.path.replace(checkpoints.folder.state)
    checkpoints.saved = found.epoch, found.step
    course = json.loads(found.facts["course"])
    for name, facts in course["rows"].items():
        confusion = Confusion(json.loads(found.facts["classes"]), 255)
        confusion.counts = counts[f"{COUNTS}:{name}"].numpy()
        checkpoints.rows[name] = EpochRow(confusion=confusion, **facts)
    arrange(checkpoints, state, [Kept(*entry) for entry in course["kept"]])


def arrange(checkpoints: CheckpointWriter, state: TrainState, kept: list[Kept]) -> None:
    """Gives the best weights the places that the state knows of; those of epochs that it does not know, and which come
    again, are set aside until the run has ended.

    A kill may come between any two of a run's writes. What was to be written of the epoch that has just ended is made
    from the state. Weights that a later epoch has displaced are gone; that epoch comes again.
    """
    here = dict(_best_files(checkpoints.folder))
    fresh = state.progress.epoch if not state.progress.inside else 0
    # With a smaller `best` than before, the worst go.
    checkpoints.kept = [entry for entry in kept if entry.epoch in here or entry.epoch == fresh]
    del checkpoints.kept[checkpoints.rule.best :]
    places = {entry.epoch: checkpoints.best_path(rank) for rank, entry in enumerate(checkpoints.kept)}
    with refused(checkpoints.folder.best):
        for epoch, path in list(here.items()):
            if epoch not in places and epoch <= state.progress.epoch:
                path.unlink()
            elif path != places.get(epoch):
                here[epoch] = path.replace(checkpoints.folder.aside(epoch))
        for epoch, place in places.items():
            if epoch in here and here[epoch] != place:
                here[epoch].replace(place)
    for rank, entry in enumerate(checkpoints.kept):
        if entry.epoch not in here:
            checkpoints.write_best(state, rank)
    if fresh and checkpoints.rule.last and _epoch_of(checkpoints.folder.last) != fresh:
        checkpoints.write_weights(checkpoints.folder.last, state)


def _best_files(folder: RunFolder) -> list[tuple[int, Path]]:
    """The whole files of best weights, with their epochs; the others are removed: what they were is not known."""
    found: list[tuple[int, Path]] = []
    for path in sorted(p for p in folder.checkpoints.iterdir() if BEST.fullmatch(p.name)):
        epoch = _epoch_of(path)
        if epoch is not None and epoch not in dict(found):  # else set aside, and made again since
            found.append((epoch, path))
        else:
            with refused(path):
                path.unlink()
    return found


def _epoch_of(path: Path) -> int | None:
    try:
        return int(open_weights(path)[1]["epoch"])
    except (SegError, KeyError, ValueError):
        return None
