"""What an exported model knows of the run that it came from, and how to have that again."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from segdsl.diagnostics import fail
from segdsl.export import contract, runtime
from segdsl.export.contract import ModelInfo
from segdsl.export.files import write_whole
from segdsl.ir.program import Program
from segdsl.run.folder import RunFolder
from segdsl.run.report.history import read_history

Origin = dict[str, str]
"""Entries of `model_info`: JSON texts by key."""
UNKNOWN: Origin = {contract.LOCK: "{}", contract.METRICS: "{}"}
"""The origin of a model that no run made."""


def origin_of(folder: Path, program: Program) -> Origin:
    """The lock of a run and the row of its log that belongs to the best weights, as far as they are there."""
    run = RunFolder(folder)
    lock = run.lock.read_text(encoding="utf-8") if run.lock.is_file() else "{}"
    return {
        contract.LOCK: json.dumps(json.loads(lock), sort_keys=True),
        contract.METRICS: json.dumps(_best(run, program)),
    }


def _best(run: RunFolder, program: Program) -> dict[str, float]:
    if not run.metrics.is_file():
        return {}
    history = read_history(run.metrics)
    place = history.best(program.train.monitor)
    if place is None:
        return {}
    row = {name: values[place] for name, values in history.columns.items()}
    return {"epoch": history.epochs[place], **{name: value for name, value in row.items() if math.isfinite(value)}}


def read_origin(path: str | Path) -> ModelInfo:
    """What the exported model at ``path`` says of itself. Raises SegError as opening it does."""
    xml = Path(path)
    if not xml.is_file():
        raise fail("model-not-found", f"`{path}` does not exist", "name an exported `.xml`", path=str(path))
    return contract.read_info(runtime.read_model(xml), xml)


def facts_of_origin(info: ModelInfo) -> dict[str, Any]:
    """The origin as JSON has it."""
    return {
        "program": info.text,
        "precision": info.precision,
        "weights": info.digest,
        "lock": info.origin[contract.LOCK],
        "metrics": info.origin[contract.METRICS],
        "certificate": info.origin[contract.CERTIFICATE],
    }


def rebuild(path: str | Path, out: str | Path | None = None) -> Path:
    """Writes the program of an exported model back, by default as `NAME.seg` beside it; no file is overwritten.

    Raises SegError (`rebuild-would-overwrite`, `rebuild-not-written`, and what reading the model raises).
    """
    info = read_origin(path)
    target = Path(path).with_suffix(".seg") if out is None else Path(out)
    if target.exists():
        message = f"`{target}` exists already, and a program is never overwritten"
        raise fail("rebuild-would-overwrite", message, "name another file with `--out`", path=str(target))
    try:
        write_whole(target, info.text.encode())
    except OSError as error:
        help = "see that the folder may be written, or name another with `--out`"
        raise fail("rebuild-not-written", f"`{target}` could not be written", help, path=str(target)) from error
    return target
