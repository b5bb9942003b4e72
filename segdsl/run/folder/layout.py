"""Layout of a run folder, and creating one.

It holds `program.seg`, `lock.json`, `machine.json`, `metrics.csv`, `tensorboard/`, `checkpoints/` and `report.html`,
and `resumed.json` if the run was ever resumed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from segdsl.diagnostics import SegError, fail
from segdsl.ir.program import Program
from segdsl.storage.atomic import sync_folder, write_text_atomically
from segdsl.text.json import parse_json
from segdsl.weights.report import LoadReport

RUNS_FOLDER = Path("runs")
"""Where run folders are created, relative to the working directory."""

HIDDEN_FILE = re.compile(r"\.occupied|\.(program\.seg|lock\.json|machine\.json)\..*\.part")
"""Other files that may be in a run folder: its lock, and partly written files."""


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Paths of the files in a run folder."""

    root: Path

    @property
    def program(self) -> Path:
        return self.root / "program.seg"

    @property
    def lock(self) -> Path:
        return self.root / "lock.json"

    @property
    def machine(self) -> Path:
        return self.root / "machine.json"

    @property
    def resumptions(self) -> Path:
        return self.root / "resumed.json"

    @property
    def report(self) -> Path:
        return self.root / "report.html"

    @property
    def metrics(self) -> Path:
        return self.root / "metrics.csv"

    @property
    def tensorboard(self) -> Path:
        return self.root / "tensorboard"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def best(self) -> Path:
        return self.checkpoints / "best.safetensors"

    @property
    def last(self) -> Path:
        return self.checkpoints / "last.safetensors"

    @property
    def state(self) -> Path:
        return self.checkpoints / "state.safetensors"

    @property
    def previous(self) -> Path:
        return self.checkpoints / "state-previous.safetensors"

    def get_displaced_path(self, epoch: int) -> Path:
        """Return where the best weights of an epoch are kept while a resumed run repeats that epoch."""
        return self.checkpoints / f"best-of-{epoch}.safetensors"

    def find_displaced_paths(self) -> list[Path]:
        """Return all existing paths of :meth:`get_displaced_path`."""
        found = self.checkpoints.glob("best-of-*.safetensors")
        return sorted(path for path in found if path.stem.removeprefix("best-of-").isdecimal())


def check_out(out: Path | None) -> None:
    """Reject an output folder that cannot become a run folder, before any work is done.

    Raises SegError (`out-taken`, `out-not-a-folder`, `out-not-writable`).
    """
    if out is None:
        return
    try:
        str(out).encode()
    except UnicodeEncodeError as error:
        message = "the name of the output folder is not valid UTF-8, which TensorBoard requires"
        raise fail("out-not-writable", message, "choose another folder with `--out`", path=str(out)) from error
    if out.exists() and not out.is_dir():
        raise fail(
            "out-not-a-folder",
            f"the output `{out}` is a file",
            "choose a folder that does not exist yet",
            path=str(out),
        )
    if out.is_dir() and any(out.iterdir()):
        what = "contains another run" if is_run_folder(out) else "is not empty"
        raise fail(
            "out-taken",
            f"the output folder `{out}` {what}",
            "choose another folder with `--out`, or delete this one first"
            if what == "is not empty"
            else "resume that run with `--resume`, choose another folder with `--out`, or delete this one first",
            path=str(out),
        )
    # The folder need not exist yet; the nearest parent that does decides whether it can be created.
    above = next(p for p in (out, *out.absolute().parents) if p.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise not_writable_error(out)


def create_run(name: str, out: Path | None, exist_ok: bool = False) -> RunFolder:
    """Create an empty run folder: ``out``, or without it the next free `runs/<name>-<number>`.

    With ``exist_ok`` it may exist already. Raises SegError as :func:`check_out` does.
    """
    if not exist_ok:
        check_out(out)
    target = out or RUNS_FOLDER
    created = [place for place in (target, *target.parents) if not place.exists()]
    try:
        folder = RunFolder(_create_next_folder(name) if out is None else out)
        folder.checkpoints.mkdir(parents=True, exist_ok=True)
        folder.tensorboard.mkdir(exist_ok=True)
        # A new folder is on the disk only once its parent is, so every parent of a created one is synced too.
        for place in {folder.root, folder.root.parent, *(one.parent for one in created)}:
            sync_folder(place)
    except OSError as error:
        raise not_writable_error(out or RUNS_FOLDER) from error
    return folder


def is_run_folder(out: Path) -> bool:
    """Return whether a folder is that of a run."""
    # `program.seg` alone is not enough: a user may keep a program of that name in a folder of their own.
    folder = RunFolder(out)
    return folder.program.is_file() and folder.lock.is_file()


def is_unfilled_run_folder(out: Path) -> bool:
    """Return whether a folder holds only what an interrupted :func:`create_run` leaves."""
    folder = RunFolder(out)
    files, folders = {folder.lock, folder.machine}, {folder.checkpoints, folder.tensorboard}
    return out.is_dir() and all(
        path in files or HIDDEN_FILE.fullmatch(path.name) or (path in folders and not any(path.iterdir()))
        for path in out.iterdir()
    )


def write_program(
    folder: RunFolder,
    program: Program,
    run_program: Program,
    weights: Iterable[LoadReport],
    data: str,
    facts: Mapping[str, Any],
) -> None:
    """Write `lock.json` and `program.seg`. Raises OSError.

    Args:
        folder: the run folder.
        program: the program as it was loaded.
        run_program: the program as it is written into the folder.
        weights: the weights that were loaded.
        data: digest of the dataset.
        facts: what else was found in the data: class weights that the loss counted, colors of the classes.
    """
    lock = build_lock(program, run_program, weights, data) | {name: value for name, value in facts.items() if value}
    # The program comes last: its presence makes the folder a run, see `is_run_folder`.
    write_lock(folder, lock)
    write_text_atomically(folder.program, run_program.resolved)


def write_lock(folder: RunFolder, lock: Mapping[str, Any]) -> None:
    """Write `lock.json`. Raises OSError."""
    write_text_atomically(folder.lock, json.dumps(lock, indent=2, sort_keys=True) + "\n")


def build_lock(program: Program, run_program: Program, weights: Iterable[LoadReport], data: str) -> dict[str, Any]:
    """Return what a run was made from, by SHA-256: its program, the program's sources, weights and data.

    Nothing about the machine. ``run_program`` is the program as written into the run folder, with the source of each of
    the ``weights``.
    """
    parts = {report.part or "model": report.sha256 for report in weights}
    return {
        "program": compute_program_digest(run_program),
        "sources": {_make_name_portable(name): source.digest for name, source in program.sources.items()},
        "weights": {part: {"source": run_program.weights[part], "sha256": digest} for part, digest in parts.items()},
        "data": data,
        "classes": list(program.classes),
    }


def read_json_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file of a run; empty if the file is missing or damaged."""
    try:
        found = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def compute_program_digest(run_program: Program) -> str:
    """Return the SHA-256 of a program as written into a run folder."""
    return hashlib.sha256(run_program.resolved.encode()).hexdigest()


def _make_name_portable(name: str) -> str:
    """Return a source's name without the location of the project on this machine."""
    return PurePath(name).name if PurePath(name).is_absolute() or name.startswith("..") else PurePath(name).as_posix()


def _create_next_folder(name: str) -> Path:
    RUNS_FOLDER.mkdir(exist_ok=True)
    taken = [p.name.rpartition("-")[2] for p in RUNS_FOLDER.glob(f"{name}-*") if p.name.rpartition("-")[0] == name]
    number = max((int(n) for n in taken if n.isdecimal()), default=0) + 1
    # `mkdir` decides, not the listing above: another process may create the same folder in between.
    while True:
        root = RUNS_FOLDER / f"{name}-{number}"
        try:
            root.mkdir()
            return root
        except FileExistsError:
            number += 1


def not_writable_error(path: Path) -> SegError:
    """Return the error of an output folder that cannot be created or written."""
    return fail(
        "out-not-writable",
        f"cannot write to the output folder `{path}`",
        "choose a folder that you can write to with `--out`, and make sure that the disk has free space",
        path=str(path),
    )
