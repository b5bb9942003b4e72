"""Resuming an interrupted run: finding it, checking what changed since, and recording that it was resumed."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from segdsl.diagnostics import SegError, fail
from segdsl.ir.program import Program
from segdsl.lang.program import ParsedProgram, elaborate_program, parse_program
from segdsl.run.engine.device import pick_device
from segdsl.run.engine.setup import Setup
from segdsl.run.folder.checkpoint import find_run_folder
from segdsl.run.folder.layout import (
    RunFolder,
    compute_program_digest,
    is_run_folder,
    not_writable_error,
    read_json_object,
    write_lock,
)
from segdsl.run.folder.machine import collect_machine_facts
from segdsl.run.folder.program_diff import (
    Difference,
    check_resumable,
    compare_data,
    compare_programs,
    compare_weights,
)
from segdsl.run.folder.recovery import StateFile, find_newest_state
from segdsl.storage.atomic import remove_drafts, write_text_atomically
from segdsl.text.json import parse_json

ORIGIN_FACTS = ("segdsl", "torch", "device")
"""Facts in a checkpoint about how it was made."""
HARDWARE_NAMES = {"cpu": "the CPU", "threads": "the number of threads", "accelerator": "the accelerator"}
"""Hardware facts in `machine.json` that decide in which order numbers are added up, and their names in messages."""


@dataclass(frozen=True, slots=True)
class ResumableRun:
    """A run that can be resumed: its newest intact state, its lock file, and the allowed changes since."""

    folder: RunFolder
    state_file: StateFile
    lock: Mapping[str, Any]
    changes: tuple[Difference, ...]

    def check_same_data(self, program: Program, digest: str) -> None:
        """Reject a dataset other than that of the run (`resume-differs`)."""
        check_resumable(self.folder, program, compare_data(self.state_file.facts.get("data", ""), digest))

    def collect_notes(self, current_facts: Mapping[str, str], device: torch.device) -> list[str]:
        """Return notes on damaged files, on changed settings, and on changes that affect the last digits of results."""
        found, texts = self.state_file, []
        for path in found.corrupt_paths:
            texts.append(f"`{path.name}` is damaged; resuming from the checkpoint before it, `{found.path.name}`")
        texts += [f"`{one.path}` changed from {one.old} to {one.new}" for one in self.changes]
        others = [
            f"{name} changed from {before} to {current_facts[name]}"
            for name in ORIGIN_FACTS
            if (before := found.facts.get(name, current_facts[name])) != current_facts[name]
        ]
        others += find_machine_changes(self.folder, device)
        if others:
            texts.append(f"{', '.join(others)}: results may now differ from those of an uninterrupted run")
        return texts


def resolve_run_to_resume(path: str | Path, out: Path | None) -> tuple[Path, Path]:
    """Return the program file and the run folder for `--resume`.

    ``path`` may be a run folder or the `program.seg` in one, which stands for both.

    Raises SegError (`resume-without-out`, `run-not-found`).
    """
    file = Path(path)
    if file.is_dir():
        return find_run_folder(file).program, out or file
    if out is None and file.name == "program.seg" and is_run_folder(file.parent):
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


def find_resumable(
    folder: RunFolder, program: Program, parsed: ParsedProgram, weights: Mapping[str, str]
) -> ResumableRun | None:
    """Return the run in ``folder``, whose lock the caller holds; None if it has not saved a state yet.

    ``parsed`` is what ``program`` was elaborated from, which may be the program of the run itself; ``weights`` are its
    sources of weights as seen from the folder. Raises SegError (`checkpoint-damaged`,
    `resume-without-state`, `resume-differs`).
    """
    for place in (folder.root, folder.checkpoints):
        remove_drafts(place)
    found = find_newest_state(folder) if is_run_folder(folder.root) else None
    if found is None:
        # Restarting would overwrite these weights, so a run without a state is refused rather than started again.
        old_weights = next((path for path in (folder.best, folder.last) if path.is_file()), None)
        if old_weights is not None:
            raise fail(
                "resume-without-state",
                f"cannot resume the run in `{folder.root}`: it has `{old_weights.name}` but no training state",
                f"start a new run from its weights: `--weights {old_weights} --out NEW`; "
                "`train.keep = Checkpoints(last = true)` saves the state too",
                path=str(folder.root),
            )
        return None
    written = parsed if parsed.scope.path == folder.program.resolve() else parse_program(folder.program)
    old, lock = elaborate_program(written, resolve=False), read_json_object(folder.lock)
    changes = [*compare_programs(old, program), *compare_weights(folder, old, weights, lock)]
    check_resumable(folder, program, changes)
    return ResumableRun(folder, found, lock, tuple(changes))


def update_program(run: ResumableRun, run_program: Program) -> None:
    """Update the program of a resumed run, and its digest. Raises SegError (`out-not-writable`)."""
    # Each of the two files is compared by itself: a kill may have come between writing them.
    try:
        digest = compute_program_digest(run_program)
        if run.lock.get("program") != digest:
            write_lock(run.folder, {**run.lock, "program": digest})
        if run.folder.program.read_text(encoding="utf-8") != run_program.resolved:
            write_text_atomically(run.folder.program, run_program.resolved)
    except OSError as error:
        raise not_writable_error(run.folder.root) from error


def write_resumption(run: ResumableRun, setup: Setup) -> None:
    """Record in `resumed.json` that the run was resumed: when, from where, with what changes, and on which machine."""
    entry = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "epoch": run.state_file.epoch,
        "step": run.state_file.step,
        "seconds": round(run.state_file.seconds, 2),
        "changed": {one.path: one.new for one in run.changes},
        "machine": collect_machine_facts(setup.device),
    }
    try:
        write_text_atomically(
            run.folder.resumptions, json.dumps([*read_resumptions(run.folder), entry], indent=2) + "\n"
        )
    except OSError as error:
        raise not_writable_error(run.folder.root) from error


def read_resumptions(folder: RunFolder) -> list[dict[str, Any]]:
    """Return the records of `resumed.json`, oldest first; empty for a run that was never resumed."""
    try:
        found = parse_json(folder.resumptions.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def find_machine_changes(folder: RunFolder, device: torch.device) -> list[str]:
    """Return the hardware changes that may affect the last digits of results."""
    # The machine of the last resumption counts, not the one that started the run.
    before, now = read_json_object(folder.machine), collect_machine_facts(device)
    for entry in read_resumptions(folder):
        before = entry.get("machine", before)
    found = []
    for key in ("cpu", "threads") if device.type == "cpu" else ("accelerator",):
        if key in before and before[key] != now[key]:
            found.append(f"{HARDWARE_NAMES[key]} changed from {before[key]} to {now[key]}")
    return found


def can_resume(folder: RunFolder, error: SegError) -> bool:
    """Return whether a run that ended in an error has an intact state to resume from."""
    damaged = error.diagnostics[0].slug == "checkpoint-damaged"
    return not damaged and (folder.state.is_file() or folder.previous.is_file())


def format_resume_command(folder: RunFolder, device: torch.device) -> str:
    """Return the command that resumes a run."""
    option = "" if device == pick_device() else f" --device {device}"
    return f"segdsl train {_quote_path(folder.root)} --resume{option}"


def format_report_command(folder: RunFolder) -> str:
    """Return the command that writes the report of a run."""
    return f"segdsl report {_quote_path(folder.root)}"


def _quote_path(path: Path) -> str:
    # A folder called `-x` would be read as an option.
    text = str(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)
