"""The folder of a run: `program.seg`, `lock.json`, `machine.json`, `metrics.csv`, `tensorboard/`, `checkpoints/`, and
`report.html`; `resumed.json` in that of a run that went on after it was left."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory
from typing import Any

from segdsl.diagnostics import SegError, fail
from segdsl.ir.program import Program
from segdsl.lang.program import load
from segdsl.storage.atomic import sync_folder, write_text
from segdsl.weights.report import LoadReport

RUNS = Path("runs")
"""Where run folders go, relative to the working directory."""

HIDDEN = re.compile(r"\.occupied|\.(program\.seg|lock\.json|machine\.json)\..*\.part")
"""What may stand beside them: the lock of the folder, and files that were being written."""


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The places in a run folder."""

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
    def resumed(self) -> Path:
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

    def aside(self, epoch: int) -> Path:
        """Where the best weights lie of an epoch that is to be made again."""
        return self.checkpoints / f"best-of-{epoch}.safetensors"

    def set_aside(self) -> list[Path]:
        """All of these."""
        found = self.checkpoints.glob("best-of-*.safetensors")
        return sorted(path for path in found if path.stem.removeprefix("best-of-").isdecimal())


def check_out(out: Path | None) -> None:
    """Refuses an output folder that cannot become a run's, before any work is done.

    Raises SegError (`out-taken`, `out-not-a-folder`, `out-not-writable`).
    """
    if out is None:
        return
    try:
        str(out).encode()
    except UnicodeEncodeError as error:
        message = "the name of the output folder is not UTF-8, and TensorBoard writes into no other"
        raise fail("out-not-writable", message, "name another folder with `--out`", path=str(out)) from error
    if out.exists() and not out.is_dir():
        raise fail(
            "out-not-a-folder", f"the output `{out}` is a file", "name a folder that does not exist yet", path=str(out)
        )
    if out.is_dir() and any(out.iterdir()):
        what = "holds another run" if is_begun(out) else "is not empty"
        raise fail(
            "out-taken",
            f"the output folder `{out}` {what}",
            "name another folder with `--out`, or delete this one first"
            if what == "is not empty"
            else "go on with that run by `--resume`, name another folder with `--out`, or delete this one first",
            path=str(out),
        )
    above = next(p for p in (out, *out.absolute().parents) if p.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise not_writable(out)


def create_run(name: str, out: Path | None, again: bool = False) -> RunFolder:
    """Makes an empty run folder: ``out``, or without it the next free `runs/<name>-<number>`.

    With ``again`` it may be there already. Raises SegError as :func:`check_out` does.
    """
    if not again:
        check_out(out)
    wanted = out or RUNS
    made = [place for place in (wanted, *wanted.parents) if not place.exists()]
    try:
        folder = RunFolder(_next_free(name) if out is None else out)
        folder.checkpoints.mkdir(parents=True, exist_ok=True)
        folder.tensorboard.mkdir(exist_ok=True)
        for place in {folder.root, folder.root.parent, *(one.parent for one in made)}:
            sync_folder(place)
    except OSError as error:
        raise not_writable(out or RUNS) from error
    return folder


def is_begun(out: Path) -> bool:
    """Whether a folder is that of a run that was begun, and not one in which a person keeps a `program.seg`."""
    folder = RunFolder(out)
    return folder.program.is_file() and folder.lock.is_file()


def is_bare(out: Path) -> bool:
    """Whether a folder holds no more than a run leaves that was ended while it made its folder."""
    folder = RunFolder(out)
    files, folders = {folder.lock, folder.machine}, {folder.checkpoints, folder.tensorboard}
    return out.is_dir() and all(
        path in files or HIDDEN.fullmatch(path.name) or (path in folders and not any(path.iterdir()))
        for path in out.iterdir()
    )


def stated_program(program: Program, overrides: Iterable[str]) -> Program:
    """A program as it lies in a run folder: resolved, with ``overrides`` that state what it cannot know of itself:
    where its data and weights lie, seen from that folder."""
    with TemporaryDirectory() as elsewhere:
        file = Path(elsewhere) / "program.seg"
        file.write_text(program.resolved, encoding="utf-8")
        return load(file, overrides)


def write_program(
    folder: RunFolder,
    program: Program,
    stated: Program,
    weights: Iterable[LoadReport],
    data: str,
    class_weights: Mapping[str, float],
) -> None:
    """Writes `lock.json` and then `program.seg`, which makes the folder one of a run that was begun.

    ``stated`` is the program as it will lie there; ``weights`` is what was loaded, ``data`` the digest of the data set,
    ``class_weights`` what a loss took from it. Raises OSError.
    """
    lock = lock_of(program, stated, weights, data)
    if class_weights:
        lock["class_weights"] = dict(class_weights)
    write_lock(folder, lock)
    write_text(folder.program, stated.resolved)


def write_lock(folder: RunFolder, lock: Mapping[str, Any]) -> None:
    """Writes `lock.json`. Raises OSError."""
    write_text(folder.lock, json.dumps(lock, indent=2, sort_keys=True) + "\n")


def lock_of(program: Program, stated: Program, weights: Iterable[LoadReport], data: str) -> dict[str, Any]:
    """What a run was made of, by SHA-256: its text, the sources of that, weights, data. Nothing of the machine.

    ``stated`` is the program as it lies in the run folder: it says where each of the ``weights`` came from.
    """
    parts = {report.part or "model": report.sha256 for report in weights}
    return {
        "program": digest_of_program(stated),
        "sources": {_portable(name): source.digest for name, source in program.sources.items()},
        "weights": {part: {"source": stated.weights[part], "sha256": digest} for part, digest in parts.items()},
        "data": data,
        "classes": list(program.classes),
    }


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file of a run; empty where there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def digest_of_program(stated: Program) -> str:
    """The SHA-256 of a program as it lies in a run folder."""
    return hashlib.sha256(stated.resolved.encode()).hexdigest()


def _portable(name: str) -> str:
    """A source's name without the place of the project on this machine."""
    return PurePath(name).name if PurePath(name).is_absolute() or name.startswith("..") else PurePath(name).as_posix()


def _next_free(name: str) -> Path:
    RUNS.mkdir(exist_ok=True)
    taken = [p.name.rpartition("-")[2] for p in RUNS.glob(f"{name}-*") if p.name.rpartition("-")[0] == name]
    number = max((int(n) for n in taken if n.isdecimal()), default=0) + 1
    while True:
        root = RUNS / f"{name}-{number}"
        try:
            root.mkdir()
            return root
        except FileExistsError:
            number += 1


def not_writable(path: Path) -> SegError:
    """The fault of an output folder that cannot be made or filled."""
    return fail(
        "out-not-writable",
        f"the output folder `{path}` cannot be written",
        "name a folder that you may write with `--out`, and see that the disk has room",
        path=str(path),
    )
