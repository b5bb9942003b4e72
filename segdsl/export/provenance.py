"""The provenance of an exported model: the run that it comes from, and the program that it contains."""

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
"""Entries of `model_info`: JSON by key."""
UNKNOWN: Origin = {model_info.LOCK: "{}", model_info.METRICS: "{}"}
"""The provenance of a model that does not come from a run."""


def origin_of(run: Run) -> Origin:
    """Return the lock of a run and the row of its log that belongs to its weights, as far as they exist."""
    folder = RunFolder(run.folder)
    history = read_history(folder.metrics)
    index = _place(history, run)
    row = {} if index is None else {name: values[index] for name, values in history.columns.items()}
    # JSON has no NaN and no infinity.
    finite = {name: value for name, value in row.items() if math.isfinite(value)}
    epoch = {} if index is None else {"epoch": history.epochs[index]}
    return {
        model_info.LOCK: json.dumps(read_object(folder.lock), sort_keys=True),
        model_info.METRICS: json.dumps({**finite, **epoch}),
    }


def _place(history: History, run: Run) -> int | None:
    """Return the index in the log of the weights' epoch; if they do not record it, that of the best monitored value."""
    epoch = open_weights(run.weights)[1].get("epoch", "")
    if epoch.isdecimal():
        return history.epochs.index(int(epoch)) if int(epoch) in history.epochs else None
    return history.best(run.program.train.monitor)


def read_origin(path: str | Path) -> ModelInfo:
    """Read the metadata of the exported model at ``path``. Raises SegError as opening it does."""
    file = exported_file(Path(path))
    if file.suffix.lower() == ONNX:
        from segdsl.inference.models.onnx_model import read_onnx

        return read_onnx(file)
    return read_xml(file)[1]


def facts_of_origin(info: ModelInfo) -> dict[str, Any]:
    """Return program, precision, weights digest and provenance for JSON."""
    return {
        "program": info.text,
        "precision": info.precision,
        "weights": info.digest,
        "lock": info.origin[model_info.LOCK],
        "metrics": info.origin[model_info.METRICS],
        "certificate": info.origin[model_info.CERTIFICATE],
    }


def rebuild(path: str | Path, out: str | Path | None = None) -> Path:
    """Write the program contained in an exported model, by default to `NAME.seg` next to it; never overwrite a file.

    Relative paths of data and weights are adjusted to the new location. Raises SegError (`rebuild-would-overwrite`,
    `rebuild-not-written`, and the errors of reading the model).
    """
    file = exported_file(Path(path))
    info = read_origin(file)
    target = file.with_suffix(".seg") if out is None else Path(out)
    if target.exists():
        message = f"`{target}` already exists, and programs are never overwritten"
        raise fail("rebuild-would-overwrite", message, "choose another file with `--out`", path=str(target))
    try:
        write_whole(target, _seen_from(target.parent, info, base_of(file)).encode())
    except OSError as error:
        help = "check that the folder is writable, or choose another one with `--out`"
        raise fail("rebuild-not-written", f"`{target}` could not be written", help, path=str(target)) from error
    return target


def _seen_from(folder: Path, info: ModelInfo, base: Path) -> str:
    """Return the program with its relative paths changed from ``base_folder`` to ``folder``."""
    # The original text, with its comments, where nothing has to change.
    if folder.resolve() == base.resolve():
        return info.text
    root = info.program.data.root
    paths = {} if root is None else {"data.root": Path(root)}
    for weights in wanted_weights(info.program):
        if not weights.source.is_remote:
            paths[f"weights.{weights.part or 'model'}"] = Path(weights.source.text).expanduser()
    moved = {name: seen_from(folder, base / path) for name, path in paths.items() if not path.is_absolute()}
    settings = [f"{name}={quoted(path)}" for name, path in moved.items()]
    return stated_program(info.program, settings).resolved if settings else info.text
