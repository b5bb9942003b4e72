"""What an exported model knows of the run that it came from, and how to have that again."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from segdsl.diagnostics import fail
from segdsl.inference.models import model_info
from segdsl.inference.models.model import ONNX, base_of, exported_file, read_xml
from segdsl.inference.models.model_info import ModelInfo
from segdsl.ir.values import quoted
from segdsl.run.folder.checkpoint import Run
from segdsl.run.folder.layout import RunFolder, read_object, stated_program
from segdsl.run.program_data import seen_from
from segdsl.run.report.history import History, read_history
from segdsl.storage.whole_files import write_whole
from segdsl.weights.files import open_weights
from segdsl.weights.sources import wanted_weights

Origin = dict[str, str]
"""Entries of `model_info`: JSON texts by key."""
UNKNOWN: Origin = {model_info.LOCK: "{}", model_info.METRICS: "{}"}
"""The origin of a model that no run made."""


def origin_of(run: Run) -> Origin:
    """The lock of a run and the row of its log that belongs to its weights, as far as they are there."""
    folder = RunFolder(run.folder)
    history = read_history(folder.metrics)
    place = _place(history, run)
    row = {} if place is None else {name: values[place] for name, values in history.columns.items()}
    known = {name: value for name, value in row.items() if math.isfinite(value)}
    epoch = {} if place is None else {"epoch": history.epochs[place]}
    return {
        model_info.LOCK: json.dumps(read_object(folder.lock), sort_keys=True),
        model_info.METRICS: json.dumps({**known, **epoch}),
    }


def _place(history: History, run: Run) -> int | None:
    """Where in the log the epoch of the weights is; without a word of it, that of the best monitored value."""
    said = open_weights(run.weights)[1].get("epoch", "")
    if said.isdecimal():
        return history.epochs.index(int(said)) if int(said) in history.epochs else None
    return history.best(run.program.train.monitor)


def read_origin(path: str | Path) -> ModelInfo:
    """What the exported model at ``path`` says of itself. Raises SegError as opening it does."""
    file = exported_file(Path(path))
    if file.suffix.lower() == ONNX:
        from segdsl.inference.models.onnx_model import read_onnx

        return read_onnx(file)
    return read_xml(file)[1]


def facts_of_origin(info: ModelInfo) -> dict[str, Any]:
    """The origin as JSON has it."""
    return {
        "program": info.text,
        "precision": info.precision,
        "weights": info.digest,
        "lock": info.origin[model_info.LOCK],
        "metrics": info.origin[model_info.METRICS],
        "certificate": info.origin[model_info.CERTIFICATE],
    }


def rebuild(path: str | Path, out: str | Path | None = None) -> Path:
    """Writes the program of an exported model back, by default as `NAME.seg` beside it; no file is overwritten.

    Its paths of data and weights name the same places, as seen from there. Raises SegError (`rebuild-would-overwrite`,
    `rebuild-not-written`, and what reading the model raises).
    """
    file = exported_file(Path(path))
    info = read_origin(file)
    target = file.with_suffix(".seg") if out is None else Path(out)
    if target.exists():
        message = f"`{target}` exists already, and a program is never overwritten"
        raise fail("rebuild-would-overwrite", message, "name another file with `--out`", path=str(target))
    try:
        write_whole(target, _seen_from(target.parent, info, base_of(file)).encode())
    except OSError as error:
        help = "see that the folder may be written, or name another with `--out`"
        raise fail("rebuild-not-written", f"`{target}` could not be written", help, path=str(target)) from error
    return target


def _seen_from(folder: Path, info: ModelInfo, base: Path) -> str:
    """The text of a program whose relative paths, which start from ``base``, start from ``folder``."""
    if folder.resolve() == base.resolve():
        return info.text
    root = info.program.data.root
    paths = {} if root is None else {"data.root": Path(root)}
    for wanted in wanted_weights(info.program):
        if not wanted.source.is_remote:
            paths[f"weights.{wanted.part or 'model'}"] = Path(wanted.source.text).expanduser()
    moved = {name: seen_from(folder, base / path) for name, path in paths.items() if not path.is_absolute()}
    settings = [f"{name}={quoted(path)}" for name, path in moved.items()]
    return stated_program(info.program, settings).resolved if settings else info.text
