"""Putting the tensors of a file into a model, and saying what became of each."""

from __future__ import annotations

from collections.abc import Collection, Container, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from segdsl.diagnostics import fail, suggest
from segdsl.ir.graph import Graph
from segdsl.weights.classes import class_keys, match_rows
from segdsl.weights.files import open_weights
from segdsl.weights.layouts import class_names, kind_of, why_dropped, why_spare
from segdsl.weights.match_layout import Reading, best_reading
from segdsl.weights.mismatch_report import Gaps, misfits
from segdsl.weights.position_embeddings import MADE_FOR, Grid, grid_of, resized
from segdsl.weights.report import Finding, LoadReport, What
from segdsl.weights.stem_channels import adapted, stems


def load_weights(
    model: nn.Module,
    path: str | Path,
    *,
    part: str = "",
    graph: Graph | None = None,
    classes: Sequence[str] = (),
    adapt: bool = False,
    exact: bool = False,
) -> LoadReport:
    """Copies the tensors of a file into ``model``, or into the part of it at the path ``part``.

    The file may be wrapped, carry prefixes, and be named by another tool's rules: the reading under which most tensors
    fit is taken. All of the part must be filled but what has a row for each class, where the file's classes are others:
    with the names of the model's ``classes`` those rows are carried over that the file has by name, else the layer is
    left as it is. With the ``graph`` of the model, position tables of another grid are resized; with ``adapt`` filters
    over the image take other channels. With ``exact`` nothing is changed to fit but position tables, and the file may
    hold nothing else: a model's own checkpoint.

    Raises SegError (`weights-missing`, `weights-unreadable`, `weights-do-not-fit`); then nothing was copied.
    """
    start = f"{part}." if part else ""
    ours = {key: value for key, value in model.state_dict().items() if key.startswith(start)}
    if not ours:
        parts = {name for name, _ in model.named_modules() if name}
        raise fail("weights-do-not-fit", f"the model has no weights at `{part}`", suggest(part, parts, "parts"))
    content, metadata = open_weights(Path(path))
    fit = _Fit(str(path), ours, best_reading(content, ours, start), kind_of(content, metadata), graph)
    fit.require_one(part)
    fit.require_plain()
    fit.drop()
    fit.resize_tables(metadata)
    if not exact and graph is not None:
        fit.carry_classes(class_names(content, metadata), classes)
        fit.adapt_stems(adapt)
    fit.note_kept(exact)
    gaps = fit.gaps(exact)
    if not gaps.number and not fit.loaded:
        why = fit.findings[0].why if fit.findings else "it has counters alone"
        raise fail("weights-do-not-fit", f"nothing of the file is of use here: {why}", "leave it out", path=str(path))
    if gaps.number:
        raise misfits(str(path), content, ours, fit.reading, gaps, fit.remedies, part)
    fit.convert()
    fit.note_others(start, model.state_dict())
    with torch.no_grad():
        for key in fit.loaded:
            ours[key].copy_(fit.tensors[key])
    kind = fit.reading.layout or fit.kind
    return LoadReport(
        str(path),
        Path(path).name,
        fit.loaded,
        len(ours),
        part,
        "",
        kind,
        fit.reading.place,
        fit.reading.prefix,
        tuple(fit.findings),
    )


@dataclass(slots=True)
class _Fit:
    """The tensors of a file on their way into a model; each step changes what does not fit yet, and notes it.

    ``settled`` are the model's keys that need nothing of the file, ``remedies`` what to do about keys that do not fit.
    """

    path: str
    ours: Mapping[str, Tensor]
    reading: Reading
    kind: str
    graph: Graph | None
    findings: list[Finding] = field(default_factory=list)
    settled: set[str] = field(default_factory=set)
    remedies: dict[str, str] = field(default_factory=dict)

    @property
    def tensors(self) -> dict[str, Tensor]:
        return self.reading.tensors

    @property
    def loaded(self) -> tuple[str, ...]:
        return tuple(key for key in self.ours if self._fits(key))

    def _fits(self, key: str) -> bool:
        return key in self.tensors and self.tensors[key].shape == self.ours[key].shape

    def note(self, what: What, keys: Sequence[str], why: str) -> None:
        """Adds to the last finding where that says the same of other keys."""
        last = self.findings[-1] if self.findings else None
        if last and (last.what, last.why) == (what, why):
            self.findings[-1] = Finding(what, (*last.keys, *keys), why)
        elif keys:
            self.findings.append(Finding(what, tuple(keys), why))

    def require_one(self, part: str) -> None:
        """Refuses a file that has what is looked for in several places, of different numbers."""
        if self.reading.rivals:
            places = ", ".join(f"`{place}`" for place in (self.reading.where, *self.reading.rivals)[:4])
            message = f"the file has what fits `{part or 'the model'}` more than once, with different numbers: {places}"
            remedy = "save the one that is meant alone, or fill a larger part, which only one place fits"
            raise fail("weights-do-not-fit", message, remedy, path=self.path)

    def require_plain(self) -> None:
        """Refuses tensors that cannot be copied as they are."""
        for key, value in self.tensors.items():
            found = _oddity(value, self.ours[key])
            if found:
                remedy = "save the weights as plain dense tensors"
                raise fail("weights-unreadable", f"`{key}` {found}", remedy, path=self.path)

    def convert(self) -> None:
        """Brings what is loaded to the model's kinds of numbers, and refuses those that no training goes on from."""
        for key in self.loaded:
            value = self.tensors[key].to(self.ours[key].dtype)
            if value.is_floating_point() and not bool(torch.isfinite(value).all()):
                message = f"`{key}` holds numbers that are not finite"
                remedy = "take an earlier checkpoint: the training that made this one had gone wrong"
                raise fail("weights-unreadable", message, remedy, path=self.path)
            self.tensors[key] = value

    def drop(self) -> None:
        """Takes out what files of this kind have and what is not to be loaded."""
        for key in list(self.tensors):
            why = why_dropped(self.kind, key)
            if why:
                del self.tensors[key]
                self.settled.add(key)
                self.note("kept", [key], why)

    def resize_tables(self, metadata: Mapping[str, str]) -> None:
        """Brings position tables that were made for another grid to the model's."""
        for key, table in (self.graph.tables() if self.graph else {}).items():
            values, wanted = self.tensors.get(key), self.ours.get(key)
            if values is None or wanted is None or not values.is_floating_point() or values.dim() != wanted.dim():
                continue
            axis = table.axis
            if _others(values.shape, axis) != _others(wanted.shape, axis):
                continue
            if values.shape == wanted.shape and MADE_FOR not in metadata:
                continue
            assert self.graph is not None
            old, new = grid_of(table, values.shape[axis], metadata), table.grid(self.graph.size)
            if old is None:
                self.remedies[key] = _grid_help(metadata)
            elif old != new and table.first + new[0] * new[1] == wanted.shape[axis]:
                self.tensors[key] = resized(values, table, old, new)
                self.note("resized", [key], f"from {_grid(old)} positions to {_grid(new)}")

    def carry_classes(self, theirs: Sequence[str], classes: Sequence[str]) -> None:
        """Matches the rows of the layers with a row for each class, by name where both sides have names."""
        assert self.graph is not None
        keys = set(class_keys(self.graph)) & set(self.tensors)
        counts = {len(self.tensors[key]) if self.tensors[key].dim() else 0 for key in keys}
        if len(counts) != 1 or 0 in counts:
            return  # nothing of the kind, or no two of one number of classes
        for key, ours in self.ours.items():
            value = self.tensors[key] if key in keys else None
            if value is None or value.dim() != ours.dim() or value.shape[1:] != ours.shape[1:]:
                continue
            rows = match_rows(theirs, len(value), classes)
            if rows is not None and rows.is_same and len(value) == len(ours):
                continue
            if rows is None and len(value) == len(ours):
                if classes:
                    self.note("carried", [key], "all rows in their order: the file does not name its classes")
                continue
            if rows is not None and rows.carried:
                self.tensors[key] = rows.taken(value, ours)
                fresh = f"; at random: {_listed(rows.fresh)}" if rows.fresh else ""
                self.note("carried", [key], f"the rows of {_listed(rows.carried)}, by name{fresh}")
            else:
                why = f"the file has {len(value)} classes, the program {len(ours)}"
                if rows is not None:
                    why = f"none of the file's classes is one of the program's ({_listed(theirs)})"
                del self.tensors[key]
                self.settled.add(key)
                self.note("left out", [key], f"{why}; starts at random")

    def adapt_stems(self, wanted: bool) -> None:
        """Fits filters over the image to its channels, if that is asked for."""
        assert self.graph is not None
        for key in stems(self.graph):
            ours, value = self.ours.get(key), self.tensors.get(key)
            if ours is None or value is None or value.dim() != ours.dim() or value.shape == ours.shape:
                continue
            if _others(value.shape, 1) != _others(ours.shape, 1) or not value.shape[1]:
                continue
            old, new = value.shape[1], ours.shape[1]
            if wanted:
                self.tensors[key] = adapted(value.float(), new)
                self.note("adapted", [key], f"from {old} to {new} {'channel' if new == 1 else 'channels'}")
            else:
                self.remedies[key] = f"`weights.adapt = true` fits its {old} channels to {new}"

    def note_kept(self, exact: bool) -> None:
        """Settles what may be missing in a file: counters, and what no training changes."""
        state = self.graph.state() if self.graph and not exact else {}
        for key in self.ours:
            if key in self.tensors:
                continue
            # Files from before PyTorch 0.4.1 have no counter, and only batch norm without momentum reads it.
            if key.endswith(".num_batches_tracked"):
                self.settled.add(key)
            elif key in state and state[key].kind == "fixed" and key not in self.settled:
                self.settled.add(key)
                self.note("kept", [key], "not in the file, and never trained")

    def gaps(self, exact: bool) -> Gaps:
        """What is not filled."""
        missing = [key for key in self.ours if key not in self.tensors and key not in self.settled]
        differ = [key for key in self.ours if key in self.tensors and not self._fits(key)]
        return Gaps(tuple(missing), tuple(differ), tuple(self.reading.others) if exact else ())

    def note_others(self, start: str, model: Collection[str]) -> None:
        """Says why the rest of the file was left out; ``model`` has the keys of all parts."""
        prefix = self.reading.prefix
        tops = {key[len(start) :].partition(".")[0] for key in self.ours}
        inside: list[str] = []
        known: dict[str, list[str]] = {}
        depth = max(key.count(".") for key in model) + 1
        usual = f"not of `{start[:-1]}`, which is all that is filled" if start else "the model has no such part"
        for key in self.reading.others:
            why = "" if _is_of(model, key, depth) else why_spare(key)
            if not why and key.startswith(prefix) and key[len(prefix) :].partition(".")[0] in tops:
                inside.append(key)
            else:
                known.setdefault(why or usual, []).append(key)
        for why, keys in known.items():
            self.note("left out", keys, why)
        self.note("doubtful", inside, "the model has no such layers there; the file may be of another model")


def _is_of(model: Container[str], key: str, depth: int) -> bool:
    """Whether a key of a file is one of the model's, which have at most ``depth`` names, behind some prefix."""
    names = key.rsplit(".", depth)
    return any(".".join(names[begin:]) in model for begin in range(len(names)))


def _oddity(value: Tensor, ours: Tensor) -> str:
    if value.is_meta:
        return "is stored as a tensor without values"
    if value.layout != torch.strided or value.is_quantized:
        return f"is a {'quantized' if value.is_quantized else 'sparse'} tensor"
    if ours.is_floating_point() and not value.is_floating_point():
        return f"holds {str(value.dtype).removeprefix('torch.')} numbers, where the model has floating-point ones"
    return ""


def _grid_help(metadata: Mapping[str, str]) -> str:
    if MADE_FOR in metadata:
        return f"the file says that it was made for {metadata[MADE_FOR][:20]}, which its positions do not fit"
    return "its positions form no square, and the file does not say which grid: use the size it was made for"


def _grid(grid: Grid) -> str:
    return f"{grid[0]}x{grid[1]}"


def _listed(names: Sequence[str], most: int = 6) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")


def _others(shape: Sequence[int], axis: int) -> list[int]:
    return [extent for number, extent in enumerate(shape) if number != axis]
