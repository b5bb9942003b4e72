"""The provenance of an exported model: the run that it comes from, and the program that it contains."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from segdsl.diagnostics import fail
from segdsl.inference.models import model_info
from segdsl.inference.models.model import find_base_folder
from segdsl.inference.models.model_info import ModelInfo
from segdsl.inference.models.opener import find_exported_file, read_model_info
from segdsl.lang.resolve import move_program
from segdsl.run.folder.checkpoint import Run
from segdsl.run.folder.layout import RunFolder, read_json_object
from segdsl.run.program_data import make_relative_path
from segdsl.run.report.history import History, read_history
from segdsl.storage.atomic import write_atomically
from segdsl.weights.files import read_weights
from segdsl.weights.sources import collect_weight_requests

Provenance = dict[str, str]
"""Entries of `model_info`: JSON by key."""
UNKNOWN_PROVENANCE: Provenance = {model_info.LOCK_KEY: "{}", model_info.METRICS_KEY: "{}"}
"""The provenance of a model that does not come from a run."""


def collect_provenance(run: Run) -> Provenance:
    """Return the lock of a run and the row of its log that belongs to its weights, as far as they exist."""
    folder = RunFolder(run.folder)
    history = read_history(folder.metrics)
    index = _find_epoch_index(history, run)
    row = {} if index is None else {name: values[index] for name, values in history.columns.items()}
    # JSON has no NaN and no infinity.
    finite = {name: value for name, value in row.items() if math.isfinite(value)}
    epoch = {} if index is None else {"epoch": history.epochs[index]}
    return {
        model_info.LOCK_KEY: json.dumps(read_json_object(folder.lock), sort_keys=True),
        model_info.METRICS_KEY: json.dumps({**finite, **epoch}),
    }


def _find_epoch_index(history: History, run: Run) -> int | None:
    """Return the index in the log of the weights' epoch; if they do not record it, that of the best monitored value."""
    epoch = read_weights(run.weights)[1].get("epoch", "")
    if epoch.isdecimal():
        return history.epochs.index(int(epoch)) if int(epoch) in history.epochs else None
    return history.find_best_index(run.program.train.monitor)


def describe_provenance(info: ModelInfo) -> dict[str, Any]:
    """Return program, precision, weights digest and provenance for JSON."""
    return {
        "program": info.program_text,
        "precision": info.precision,
        "weights": info.digest,
        "lock": info.provenance[model_info.LOCK_KEY],
        "metrics": info.provenance[model_info.METRICS_KEY],
        "certificate": info.provenance[model_info.CERTIFICATE_KEY],
    }


def rebuild_program(path: str | Path, out: str | Path | None = None) -> Path:
    """Write the program contained in an exported model, by default to `NAME.seg` next to it; never overwrite a file.

    Relative paths of data and weights are adjusted to the new location. Raises SegError (`rebuild-would-overwrite`,
    `rebuild-not-written`, and the errors of reading the model).
    """
    file = find_exported_file(Path(path))
    info = read_model_info(file)
    target = file.with_suffix(".seg") if out is None else Path(out)
    if target.exists():
        message = f"`{target}` already exists, and programs are never overwritten"
        raise fail("rebuild-would-overwrite", message, "choose another file with `--out`", path=str(target))
    try:
        write_atomically(target, _relocate_program_text(target.parent, info, find_base_folder(file)).encode())
    except OSError as error:
        help = "check that the folder is writable, or choose another one with `--out`"
        raise fail("rebuild-not-written", f"`{target}` could not be written", help, path=str(target)) from error
    return target


def _relocate_program_text(folder: Path, info: ModelInfo, base_folder: Path) -> str:
    """Return the program with its relative paths changed from ``base_folder`` to ``folder``."""
    # The original text, with its comments, where nothing has to change.
    if folder.resolve() == base_folder.resolve():
        return info.program_text
    root = info.program.data.root
    paths = {} if root is None else {"data.root": Path(root)}
    for weights in collect_weight_requests(info.program):
        if not weights.source.is_remote:
            paths[f"weights.{weights.part or 'model'}"] = Path(weights.source.text).expanduser()
    moved = {
        name: make_relative_path(folder, base_folder / path) for name, path in paths.items() if not path.is_absolute()
    }
    if not moved:
        return info.program_text
    data = {"root": moved["data.root"]} if "data.root" in moved else {}
    sources = {part: moved.get(f"weights.{part}", text) for part, text in info.program.weights.items()}
    return move_program(info.program, folder / "program.seg", data, sources).resolved
