"""Going on with a run that was left: where it lies, what may have changed since, and what is written of it."""

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
"""What a checkpoint says of how it was made."""
COMPUTES = {"cpu": "the processor", "threads": "the number of threads", "accelerator": "the accelerator"}
"""What of a machine decides in which order numbers are added up, by its name in `machine.json`."""


@dataclass(frozen=True, slots=True)
class LeftRun:
    """A run to go on with: its newest whole state, its lock, and what is another now and may be."""

    folder: RunFolder
    found: Recovered
    lock: Mapping[str, Any]
    changes: tuple[Difference, ...]

    def require_data(self, program: Program, digest: str) -> None:
        """Refuses another data set than that of the run (`resume-differs`)."""
        require_same(self.folder, program, data_difference(self.found.facts.get("data", ""), digest))

    def notes(self, made_by: Mapping[str, str], device: torch.device) -> list[str]:
        """What a person should know: what was damaged, what has changed, what makes the last digits others."""
        found, texts = self.found, []
        for path in found.damaged:
            texts.append(f"`{path.name}` is damaged; the checkpoint before it, `{found.path.name}`, is whole")
        texts += [f"`{one.path}` is {one.new} from here on; it was {one.old}" for one in self.changes]
        others = [
            f"{name} {made_by[name]} in place of {before}"
            for name in MADE_BY
            if (before := found.facts.get(name, made_by[name])) != made_by[name]
        ]
        others += machine_changes(self.folder, device)
        if others:
            texts.append(f"this is {', '.join(others)}: from here on, numbers may differ from those of a run in one go")
        return texts


def named_run(path: str | Path, out: Path | None) -> tuple[Path, Path]:
    """The program and the folder that `--resume` means: a run folder, or the `program.seg` in one, stands for both.

    Raises SegError (`resume-without-out`, `run-not-found`).
    """
    file = Path(path)
    if file.is_dir():
        return run_folder(file).program, out or file
    if out is None and file.name == "program.seg" and is_begun(file.parent):
        out = file.parent
    if out is None and not file.exists() and file.suffix != ".seg":
        raise fail("run-not-found", f"there is no run folder `{file}`", "name the folder of the run", path=str(file))
    if out is None:
        raise fail(
            "resume-without-out",
            "`--resume` needs the folder of the run",
            f"name it: `segdsl train {shlex.quote(str(file))} --out DIR --resume`, or `segdsl train DIR --resume`",
            path=str(file),
        )
    return file, out


def left_run(folder: RunFolder, program: Program, overrides: Iterable[str]) -> LeftRun | None:
    """What there is of a run to go on with; None where it has learnt nothing yet. The folder is this process's own.

    ``overrides`` make ``program`` mean its data and weights when it lies in the folder. Raises SegError
    (`checkpoint-damaged`, `resume-without-state`, `resume-differs`).
    """
    for place in (folder.root, folder.checkpoints):
        remove_drafts(place)
    found = newest_state(folder) if is_begun(folder.root) else None
    if found is None:
        kept = next((path for path in (folder.best, folder.last) if path.is_file()), None)
        if kept is not None:
            raise fail(
                "resume-without-state",
                f"the run in `{folder.root}` has `{kept.name}`, and nothing that it could go on from",
                f"begin a new run from its weights: `--weights {kept} --out NEW`; "
                "`train.keep = Checkpoints(last = true)` keeps what is needed",
                path=str(folder.root),
            )
        return None
    old, lock = load(folder.program), read_object(folder.lock)
    stated = stated_program(program, overrides)
    changes = [*differences(old, program), *weights_differences(folder, old, stated, lock)]
    require_same(folder, program, changes)
    return LeftRun(folder, found, lock, tuple(changes))


def write_again(run: LeftRun, stated: Program) -> None:
    """Writes the program of a run that goes on, where it is another text now, and its digest, where that is another:
    a kill may have come between the two. Raises SegError (`out-not-writable`)."""
    try:
        digest = digest_of_program(stated)
        if run.lock.get("program") != digest:
            write_lock(run.folder, {**run.lock, "program": digest})
        if run.folder.program.read_text(encoding="utf-8") != stated.resolved:
            write_text(run.folder.program, stated.resolved)
    except OSError as error:
        raise not_writable(run.folder.root) from error


def write_resumption(run: LeftRun, setup: Setup) -> None:
    """Adds to `resumed.json` that the run goes on, when, from where, with what, and on which machine."""
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
    """The times at which a run went on, oldest first; empty for one that was never left."""
    try:
        found = json.loads(folder.resumed.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return []
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def machine_changes(folder: RunFolder, device: torch.device) -> list[str]:
    """What computes now and did not before, where sums may be another in their last digits for it."""
    before, now = read_object(folder.machine), machine_facts(device)
    for entry in read_resumptions(folder):
        before = entry.get("machine", before)
    found = []
    for key in ("cpu", "threads") if device.type == "cpu" else ("accelerator",):
        if key in before and before[key] != now[key]:
            found.append(f"{COMPUTES[key]} {now[key]} in place of {before[key]}")
    return found


def can_go_on(folder: RunFolder, error: SegError) -> bool:
    """Whether a run that ended in an error has something whole to go on from."""
    damaged = error.diagnostics[0].slug == "checkpoint-damaged"
    return not damaged and (folder.state.is_file() or folder.previous.is_file())


def command(folder: RunFolder, device: torch.device) -> str:
    """The command that goes on with a run."""
    named = "" if device == pick_device() else f" --device {device}"
    return f"segdsl train {_in_shell(folder.root)} --resume{named}"


def report_command(folder: RunFolder) -> str:
    """The command that writes the report of a run."""
    return f"segdsl report {_in_shell(folder.root)}"


def _in_shell(path: Path) -> str:
    text = str(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)
