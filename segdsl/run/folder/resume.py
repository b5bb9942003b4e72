"""Resuming an interrupted run: finding it, checking what changed since, and recording that it was resumed."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from segdsl.diagnostics import SegError, fail
from segdsl.ir.program import Program
from segdsl.lang.program import load
from segdsl.run.engine.device import pick_device
from segdsl.run.engine.setup import Setup
from segdsl.run.folder.checkpoint import run_folder
from segdsl.run.folder.layout import (
    RunFolder,
    digest_of_program,
    is_begun,
    not_writable,
    read_object,
    stated_program,
    write_lock,
)
from segdsl.run.folder.machine import machine_facts
from segdsl.run.folder.program_diff import (
    Difference,
    data_difference,
    differences,
    require_same,
    weights_differences,
)
from segdsl.run.folder.recovery import Recovered, newest_state
from segdsl.storage.atomic import remove_drafts, write_text

MADE_BY = ("segdsl", "torch", "device")
"""Facts in a checkpoint about how it was made."""
COMPUTES = {"cpu": "the CPU", "threads": "the number of threads", "accelerator": "the accelerator"}
"""Hardware facts in `machine.json` that decide in which order numbers are added up, and their names in messages."""


@dataclass(frozen=True, slots=True)
class LeftRun:
    """A run that can be resumed: its newest intact state, its lock file, and the allowed changes since."""

    folder: RunFolder
    found: Recovered
    lock: Mapping[str, Any]
    changes: tuple[Difference, ...]

    def require_data(self, program: Program, digest: str) -> None:
        """Reject a dataset other than that of the run (`resume-differs`)."""
        require_same(self.folder, program, data_difference(self.found.facts.get("data", ""), digest))

    def notes(self, made_by: Mapping[str, str], device: torch.device) -> list[str]:
        """Return notes on damaged files, on changed settings, and on changes that affect the last digits of results."""
        found, texts = self.found, []
        for path in found.damaged:
            texts.append(f"`{path.name}` is damaged; resuming from the checkpoint before it, `{found.path.name}`")
        texts += [f"`{one.path}` changed from {one.old} to {one.new}" for one in self.changes]
        others = [
            f"{name} changed from {before} to {made_by[name]}"
            for name in MADE_BY
            if (before := found.facts.get(name, made_by[name])) != made_by[name]
        ]
        others += machine_changes(self.folder, device)
        if others:
            texts.append(f"{', '.join(others)}: results may now differ from those of an uninterrupted run")
        return texts


def named_run(path: str | Path, out: Path | None) -> tuple[Path, Path]:
    """Return the program file and the run folder for `--resume`.

    ``path`` may be a run folder or the `program.seg` in one, which stands for both.

    Raises SegError (`resume-without-out`, `run-not-found`).
    """
    file = Path(path)
    if file.is_dir():
        return run_folder(file).program, out or file
    if out is None and file.name == "program.seg" and is_begun(file.parent):
        out = file.parent
    if out is None and not file.exists() and file.suffix != ".seg":
        raise fail("run-not-found", f"run folder `{file}` not found", "pass the folder of the run", path=str(file))
    if out is None:
        raise fail(
            "resume-without-out",
            "`--resume` needs a run folder",
            f"pass it: `segdsl train {shlex.quote(str(file))} --out DIR --resume`, or `segdsl train DIR --resume`",
            path=str(file),
        )
    return file, out


def left_run(folder: RunFolder, program: Program, overrides: Iterable[str]) -> LeftRun | None:
    """Return the run in ``folder``, whose lock the caller holds; None if it has not saved a state yet.

    ``overrides`` adapt the locations of data and weights to the folder. Raises SegError (`checkpoint-damaged`,
    `resume-without-state`, `resume-differs`).
    """
    for place in (folder.root, folder.checkpoints):
        remove_drafts(place)
    found = newest_state(folder) if is_begun(folder.root) else None
    if found is None:
        # Restarting would overwrite these weights, so a run without a state is refused rather than started again.
        weights = next((path for path in (folder.best, folder.last) if path.is_file()), None)
        if weights is not None:
            raise fail(
                "resume-without-state",
                f"cannot resume the run in `{folder.root}`: it has `{weights.name}` but no training state",
                f"start a new run from its weights: `--weights {weights} --out NEW`; "
                "`train.keep = Checkpoints(last = true)` saves the state too",
                path=str(folder.root),
            )
        return None
    old, lock = load(folder.program), read_object(folder.lock)
    stated = stated_program(program, overrides)
    changes = [*differences(old, program), *weights_differences(folder, old, stated, lock)]
    require_same(folder, program, changes)
    return LeftRun(folder, found, lock, tuple(changes))


def write_again(run: LeftRun, stated: Program) -> None:
    """Update the program of a resumed run, and its digest. Raises SegError (`out-not-writable`)."""
    # Each of the two files is compared by itself: a kill may have come between writing them.
    try:
        digest = digest_of_program(stated)
        if run.lock.get("program") != digest:
            write_lock(run.folder, {**run.lock, "program": digest})
        if run.folder.program.read_text(encoding="utf-8") != stated.resolved:
            write_text(run.folder.program, stated.resolved)
    except OSError as error:
        raise not_writable(run.folder.root) from error


def write_resumption(run: LeftRun, setup: Setup) -> None:
    """Record in `resumed.json` that the run was resumed: when, from where, with what changes, and on which machine."""
    entry = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "epoch": run.found.epoch,
        "step": run.found.step,
        "seconds": round(run.found.seconds, 2),
        "changed": {one.path: one.new for one in run.changes},
        "machine": machine_facts(setup.device),
    }
    try:
        write_text(run.folder.resumed, json.dumps([*read_resumptions(run.folder), entry], indent=2) + "\n")
    except OSError as error:
        raise not_writable(run.folder.root) from error


def read_resumptions(folder: RunFolder) -> list[dict[str, Any]]:
    """Return the records of `resumed.json`, oldest first; empty for a run that was never resumed."""
    try:
        found = json.loads(folder.resumed.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return []
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def machine_changes(folder: RunFolder, device: torch.device) -> list[str]:
    """Return the hardware changes that may affect the last digits of results."""
    # The machine of the last resumption counts, not the one that started the run.
    before, now = read_object(folder.machine), machine_facts(device)
    for entry in read_resumptions(folder):
        before = entry.get("machine", before)
    found = []
    for key in ("cpu", "threads") if device.type == "cpu" else ("accelerator",):
        if key in before and before[key] != now[key]:
            found.append(f"{COMPUTES[key]} changed from {before[key]} to {now[key]}")
    return found


def can_go_on(folder: RunFolder, error: SegError) -> bool:
    """Return whether a run that ended in an error has an intact state to resume from."""
    damaged = error.diagnostics[0].slug == "checkpoint-damaged"
    return not damaged and (folder.state.is_file() or folder.previous.is_file())


def command(folder: RunFolder, device: torch.device) -> str:
    """Return the command that resumes a run."""
    option = "" if device == pick_device() else f" --device {device}"
    return f"segdsl train {_in_shell(folder.root)} --resume{option}"


def report_command(folder: RunFolder) -> str:
    """Return the command that writes the report of a run."""
    return f"segdsl report {_in_shell(folder.root)}"


def _in_shell(path: Path) -> str:
    # A folder called `-x` would be read as an option.
    text = str(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)
