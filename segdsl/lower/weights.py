"""Putting the tensors of a file into a model: finding the right wrapper and prefix, and saying what does not fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from segdsl.diagnostics import Diagnostic, SegError, fail, nearest, suggest
from segdsl.ir.graph import Graph
from segdsl.lower.files import open_weights, read_weights, save_weights
from segdsl.lower.positions import MADE_FOR, Grid, grid_of, resized

WRAPPERS = ("module.", "model.", "model.model.")
"""What other tools put in front of every key (distributed training, Lightning, OTX)."""
SHOWN = 5
"""Findings of one kind that an error spells out."""


@dataclass(frozen=True)
class LoadReport:
    """What happened to the keys: those of the model (``loaded``, ``missing``), those of the file (``unexpected``), and
    those of both with different shapes (key, shape in the file, shape in the model).

    ``removed`` is the wrapper's prefix that was cut off the file's keys; ``resized`` the position tables that were made
    for another grid (key, that grid, the program's).
    """

    source: str
    loaded: tuple[str, ...]
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...] = ()
    removed: str = ""
    resized: tuple[tuple[str, Grid, Grid], ...] = ()

    def notes(self) -> list[str]:
        """What is worth saying of a load that went well."""
        return [
            f"`{key}` was made for {old[0]}x{old[1]} positions, and is resized to {new[0]}x{new[1]}"
            for key, old, new in self.resized
        ]


def load_weights(
    model: nn.Module,
    source: str | Path,
    *,
    strict: bool = True,
    prefix: str = "",
    graph: Graph | None = None,
) -> LoadReport:
    """Copies the tensors of a file into ``model``, or with ``prefix`` into the part of it at that path.

    The file may be wrapped (`state_dict`, `model`, …) and its keys may carry a prefix; the reading under which most
    keys fit is taken. With ``strict`` a key that is missing, left over, or of another shape is an error; else such keys
    are left out and reported, as the head of a model with other classes. What a file holds beside the part at
    ``prefix`` is no error. With the ``graph`` of the model, position tables of another grid are resized to its own.
    Raises SegError (`weights-missing`, `weights-unreadable`, `weights-do-not-fit`); then nothing was copied.
    """
    start = f"{prefix}." if prefix else ""
    ours = {key: value for key, value in model.state_dict().items() if key.startswith(start)}
    if not ours:
        parts = {name for name, _ in model.named_modules() if name}
        raise fail("weights-do-not-fit", f"the model has no weights at `{prefix}`", suggest(prefix, parts, "parts"))
    content, metadata = open_weights(Path(source))
    theirs, removed = _best_reading(content, ours, start)
    _require_plain(theirs, str(source))
    moved, lost = _resize_tables(theirs, ours, graph, metadata) if graph else ([], {})
    report = replace(_compare(str(source), theirs, ours, removed), resized=tuple(moved))
    spare = report.unexpected if not prefix else ()  # a part's file may hold more, such as the head it was trained with
    if not report.loaded or (strict and (report.missing or report.mismatched or spare)):
        raise SegError(_misfits(report, theirs, ours, lost))
    with torch.no_grad():
        for key in report.loaded:
            ours[key].copy_(theirs[key])
    return report


def _best_reading(content: Mapping[str, Any], ours: Mapping[str, Tensor], start: str) -> tuple[dict[str, Tensor], str]:
    """The file's tensors under keys of the model, in the reading that fits most of them."""
    best: tuple[tuple[int, int, int], dict[str, Tensor], str] = ((-1, 0, 0), {}, "")
    for order, (theirs, removed) in enumerate(_readings(content, start)):
        same = [key for key in theirs if key in ours]
        score = (sum(theirs[key].shape == ours[key].shape for key in same), len(same), -order)
        if score > best[0]:
            best = (score, theirs, removed)
    return best[1], best[2]


def _readings(content: Mapping[str, Any], start: str) -> Iterator[tuple[dict[str, Tensor], str]]:
    """Every way to read the file: each dictionary of tensors in it, with and without a wrapper's prefix."""
    for tensors in _dictionaries(content):
        for wrapper in ("", *WRAPPERS):
            if wrapper and not any(key.startswith(wrapper) for key in tensors):
                continue
            bare = {key.removeprefix(wrapper): value for key, value in tensors.items()}
            yield {key: value for key, value in bare.items() if key.startswith(start)}, wrapper
            if start and not any(key.startswith(start) for key in bare):
                yield {start + key: value for key, value in bare.items()}, wrapper


def _dictionaries(content: Mapping[str, Any], depth: int = 0) -> Iterator[dict[str, Tensor]]:
    tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    if tensors:
        yield tensors
    for value in content.values():
        if isinstance(value, Mapping) and depth < 3:
            yield from _dictionaries(value, depth + 1)


def _resize_tables(
    theirs: dict[str, Tensor], ours: Mapping[str, Tensor], graph: Graph, metadata: Mapping[str, str]
) -> tuple[list[tuple[str, Grid, Grid]], dict[str, str]]:
    """Replaces the position tables of another grid than the model's in ``theirs``.

    Gives which, from and to what grid; and for those whose grid cannot be told what to do about them.
    """
    moved: list[tuple[str, Grid, Grid]] = []
    lost: dict[str, str] = {}
    for key, table in graph.tables().items():
        values, wanted = theirs.get(key), ours.get(key)
        if values is None or wanted is None or not values.is_floating_point() or values.dim() != wanted.dim():
            continue
        axis, same = table.axis, values.shape == wanted.shape
        if _others(values.shape, axis) != _others(wanted.shape, axis) or (same and MADE_FOR not in metadata):
            continue
        old, new = grid_of(table, values.shape[axis], metadata), table.grid(graph.size)
        if old is None:
            lost[key] = _grid_help(metadata)
        elif old != new and table.first + new[0] * new[1] == wanted.shape[axis]:
            theirs[key] = resized(values, table, old, new)
            moved.append((key, old, new))
    return moved, lost


def _grid_help(metadata: Mapping[str, str]) -> str:
    if MADE_FOR in metadata:
        return f"the file says that it was made for {metadata[MADE_FOR][:20]}, which its positions do not fit"
    return "its positions form no square, and the file does not say which grid: use the size it was made for"


def _require_plain(theirs: Mapping[str, Tensor], source: str) -> None:
    """Refuses tensors that cannot be copied as they are: sparse ones, quantized ones, and those without values."""
    for key, value in theirs.items():
        if value.layout != torch.strided or value.is_meta or value.is_quantized:
            what = "without values" if value.is_meta else "quantized" if value.is_quantized else "sparse"
            message = f"`{key}` is stored as a tensor {what}" if value.is_meta else f"`{key}` is a {what} tensor"
            remedy = "save the weights as plain dense tensors"
            raise fail("weights-unreadable", message, remedy, path=source)


def _others(shape: Sequence[int], axis: int) -> list[int]:
    return [extent for number, extent in enumerate(shape) if number != axis]


def _compare(source: str, theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor], removed: str) -> LoadReport:
    both = [key for key in ours if key in theirs]
    differ = [key for key in both if theirs[key].shape != ours[key].shape]
    # Files from before PyTorch 0.4.1 have no counter, and only batch norm without momentum reads it.
    missing = [key for key in ours if key not in theirs and not key.endswith(".num_batches_tracked")]
    return LoadReport(
        source,
        tuple(key for key in both if key not in set(differ)),
        tuple(missing),
        tuple(key for key in theirs if key not in ours),
        tuple((key, tuple(theirs[key].shape), tuple(ours[key].shape)) for key in differ),
        removed,
    )


def _misfits(
    report: LoadReport, theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor], lost: Mapping[str, str]
) -> list[Diagnostic]:
    """One finding for each key that does not fit, at most SHOWN of a kind, after a first one that counts them."""
    counts = {"missing": report.missing, "left over": report.unexpected, "of another shape": report.mismatched}
    told = ", ".join(f"{len(keys)} {what}" for what, keys in counts.items() if keys) or "no tensor in it"
    message = f"the file does not fit the model: {len(report.loaded)} of {len(ours)} keys fit, {told}"
    remedy = "use weights of this model, or start without them: `--weights none`"
    if report.loaded and not report.missing and not report.unexpected:
        remedy = "give the number of classes that the file was trained with, or start without weights: `--weights none`"
    found = [_misfit(report, message, remedy)]
    for key, got, expected in report.mismatched[:SHOWN]:
        message = f"`{key}` is {list(got)} in the file and {list(expected)} in the model"
        remedy = lost.get(key, "both must have one shape: check the classes and the widths")
        found.append(_misfit(report, message, remedy))
    for key in report.missing[:SHOWN]:
        found.append(_misfit(report, f"the file has no `{key}`", _nearest_key(key, theirs, "the file")))
    for key in report.unexpected[:SHOWN]:
        found.append(_misfit(report, f"the model has no `{key}`", _nearest_key(key, ours, "the model")))
    return found


def _nearest_key(key: str, others: Mapping[str, Tensor], where: str) -> str:
    leaf = key.rpartition(".")[2]
    near = nearest(key, [other for other in others if other.rpartition(".")[2] == leaf])
    if near is None:
        return f"nothing in {where} is like it"
    return f"the nearest in {where} is `{near}`, {list(others[near].shape)}"


def _misfit(report: LoadReport, message: str, help: str) -> Diagnostic:
    return Diagnostic("weights-do-not-fit", message, help, path=report.source)


__all__ = ["LoadReport", "load_weights", "read_weights", "save_weights"]
