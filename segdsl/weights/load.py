"""Loading the tensors of a weights file into a model, and reporting what happened to each."""

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
    """Copy the tensors of a file into ``model``, or into the part of it at the path ``part``.

    The file must fill the whole part, except for a classifier of other classes: its rows are matched by name to
    ``classes``, else it keeps its initial values. ``graph`` is needed to resize position tables, and ``adapt`` adapts
    filters over the image to other channels. With ``exact``, for a model's own checkpoint, only position tables may be
    changed to fit, and the file must not contain anything else.

    Raises SegError (`weights-missing`, `weights-unreadable`, `weights-do-not-fit`); in that case nothing was copied.
    """
    start = f"{part}." if part else ""
    ours = {key: value for key, value in model.state_dict().items() if key.startswith(start)}
    if not ours:
        parts = {name for name, _ in model.named_modules() if name}
        raise fail("weights-do-not-fit", f"the model has no part `{part}` with weights", suggest(part, parts, "parts"))
    content, metadata = open_weights(Path(path))
    match = best_reading(content, ours, start)
    fit = _Fit(str(path), ours, match, kind_of(content, metadata), graph)
    # Every step works on tensors of the file only. The model is written last, when nothing can fail any more.
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
        why = fit.findings[0].why if fit.findings else "the file contains only batch counters"
        raise fail("weights-do-not-fit", f"no tensor to load: {why}", "remove it from `weights`", path=str(path))
    if gaps.number:
        raise misfits(str(path), content, ours, fit.reading, gaps, fit.remedies, part)
    fit.convert()
    fit.note_others(start, model.state_dict())
    with torch.no_grad():
        for key in fit.loaded:
            ours[key].copy_(fit.tensors[key])
    return LoadReport(
        str(path),
        Path(path).name,
        fit.loaded,
        len(ours),
        part,
        "",
        match.layout or fit.kind,
        match.place,
        match.prefix,
        tuple(fit.findings),
    )


@dataclass(slots=True)
class _Fit:
    """The tensors of a file while they are fitted to a model: each step changes what does not fit yet and records it.

    ``exempt_keys`` are keys of the model that the file need not have; ``remedies`` are the help texts for keys that do
    not fit.
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
        """Add a finding, or extend the last one if it has the same outcome and reason."""
        last = self.findings[-1] if self.findings else None
        if last and (last.what, last.why) == (what, why):
            self.findings[-1] = Finding(what, (*last.keys, *keys), why)
        elif keys:
            self.findings.append(Finding(what, tuple(keys), why))

    def require_one(self, part: str) -> None:
        """Fail if several places in the file fit equally well but have different values."""
        if self.reading.rivals:
            places = ", ".join(f"`{place}`" for place in (self.reading.where, *self.reading.rivals)[:4])
            target = f"`{part}`" if part else "the model"
            message = f"several places in the file fit {target}, with different values: {places}"
            remedy = "save only the right one to a file, or fill a larger part that only one place fits"
            raise fail("weights-do-not-fit", message, remedy, path=self.path)

    def require_plain(self) -> None:
        """Fail if a tensor is sparse, quantized, without values, or not of a floating-point type where needed."""
        for key, value in self.tensors.items():
            found = _oddity(value, self.ours[key])
            if found:
                remedy = "save the weights as ordinary dense tensors"
                raise fail("weights-unreadable", f"`{key}` {found}", remedy, path=self.path)

    def convert(self) -> None:
        """Convert the tensors to the dtypes of the model, and fail if a value is not finite."""
        for key in self.loaded:
            # Checked after the conversion, which turns numbers beyond the range of the new dtype into infinity.
            value = self.tensors[key].to(self.ours[key].dtype)
            if value.is_floating_point() and not bool(torch.isfinite(value).all()):
                message = f"`{key}` contains values that are not finite"
                remedy = "use an earlier checkpoint: the training that wrote this one had diverged"
                raise fail("weights-unreadable", message, remedy, path=self.path)
            self.tensors[key] = value

    def drop(self) -> None:
        """Remove the tensors that must not be loaded from files of this kind."""
        for key in list(self.tensors):
            why = why_dropped(self.kind, key)
            if why:
                del self.tensors[key]
                self.settled.add(key)
                self.note("kept", [key], why)

    def resize_tables(self, metadata: Mapping[str, str]) -> None:
        """Resize position tables that were made for another grid."""
        for key, table in (self.graph.tables() if self.graph else {}).items():
            values, wanted = self.tensors.get(key), self.ours.get(key)
            if values is None or wanted is None or not values.is_floating_point() or values.dim() != wanted.dim():
                continue
            axis = table.axis
            if _others(values.shape, axis) != _others(wanted.shape, axis):
                continue
            # Tables of equal size can have different grids (4x9 and 6x6 cells), but only a file that states its size
            # tells them apart.
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
        """Match the rows of classifier layers by class name, if both the file and the model have names."""
        assert self.graph is not None
        keys = set(class_keys(self.graph)) & set(self.tensors)
        counts = {len(self.tensors[key]) if self.tensors[key].dim() else 0 for key in keys}
        # No classifier was found, or its layers disagree on the number of classes.
        if len(counts) != 1 or 0 in counts:
            return
        for key, ours in self.ours.items():
            value = self.tensors[key] if key in keys else None
            if value is None or value.dim() != ours.dim() or value.shape[1:] != ours.shape[1:]:
                continue
            rows = match_rows(theirs, len(value), classes)
            if rows is not None and rows.is_same and len(value) == len(ours):
                continue
            if rows is None and len(value) == len(ours):
                if classes:
                    self.note("carried", [key], "all rows in file order: the file does not name its classes")
                continue
            if rows is not None and rows.carried:
                self.tensors[key] = rows.taken(value, ours)
                fresh = f"; random: {_listed(rows.fresh)}" if rows.fresh else ""
                self.note("carried", [key], f"rows matched by name: {_listed(rows.carried)}{fresh}")
            else:
                noun = "class" if len(value) == 1 else "classes"
                why = f"the file has {len(value)} {noun}, the program has {len(ours)}"
                if rows is not None:
                    why = f"the program has none of the file's classes ({_listed(theirs)})"
                del self.tensors[key]
                self.settled.add(key)
                self.note("left out", [key], f"{why}; starts from random values")

    def adapt_stems(self, wanted: bool) -> None:
        """Adapt the filters over the image to its channels if ``is_enabled``, otherwise suggest the setting."""
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
                noun = "channel" if old == 1 else "channels"
                self.remedies[key] = f"set `weights.adapt = true` to adapt its {old} {noun} to {new}"

    def note_kept(self, exact: bool) -> None:
        """Exempt the keys that may be missing in a file: batch counters and tensors that are never trained."""
        state = self.graph.state() if self.graph and not exact else {}
        for key in self.ours:
            if key in self.tensors:
                continue
            # Files from before PyTorch 0.4.1 have no counter, and only batch norm without momentum reads it.
            if key.endswith(".num_batches_tracked"):
                self.settled.add(key)
            elif key in state and state[key].kind == "fixed" and key not in self.settled:
                self.settled.add(key)
                self.note("kept", [key], "not in the file and never trained")

    def gaps(self, exact: bool) -> Gaps:
        """Return the keys that do not match; keys that only the file has count only for an exact load."""
        missing = [key for key in self.ours if key not in self.tensors and key not in self.settled]
        differ = [key for key in self.ours if key in self.tensors and not self._fits(key)]
        return Gaps(tuple(missing), tuple(differ), tuple(self.reading.others) if exact else ())

    def note_others(self, start: str, model: Collection[str]) -> None:
        """Record why the remaining tensors of the file were left out; ``model_keys`` are the keys of all parts."""
        prefix = self.reading.prefix
        tops = {key[len(start) :].partition(".")[0] for key in self.ours}
        inside: list[str] = []
        known: dict[str, list[str]] = {}
        depth = max(key.count(".") for key in model) + 1
        usual = f"outside `{start[:-1]}`, the only part to fill" if start else "the model has no such part"
        for key in self.reading.others:
            # A classifier of pretraining is recognized by its name, unless the model itself has a key of that name.
            why = "" if _is_of(model, key, depth) else why_spare(key)
            if not why and key.startswith(prefix) and key[len(prefix) :].partition(".")[0] in tops:
                inside.append(key)
            else:
                known.setdefault(why or usual, []).append(key)
        for why, keys in known.items():
            self.note("left out", keys, why)
        self.note("doubtful", inside, "the model has no such layers there; the file may belong to another model")


def _is_of(model: Container[str], key: str, depth: int) -> bool:
    """Return whether a key of a file ends in a key of the model; these have at most ``max_depth`` parts."""
    names = key.rsplit(".", depth)
    return any(".".join(names[begin:]) in model for begin in range(len(names)))


def _oddity(value: Tensor, ours: Tensor) -> str:
    if value.is_meta:
        return "is stored as a tensor without values"
    if value.layout != torch.strided or value.is_quantized:
        return f"is a {'quantized' if value.is_quantized else 'sparse'} tensor"
    if ours.is_floating_point() and not value.is_floating_point():
        return f"has dtype {str(value.dtype).removeprefix('torch.')}, but the model needs floating-point values"
    return ""


def _grid_help(metadata: Mapping[str, str]) -> str:
    if MADE_FOR in metadata:
        return f"the file states the input size {metadata[MADE_FOR][:20]}, which does not match its number of positions"
    return "the number of its positions is not a square: set `data.input_size` to the size the file was made for"


def _grid(grid: Grid) -> str:
    return f"{grid[0]}x{grid[1]}"


def _listed(names: Sequence[str], most: int = 6) -> str:
    quoted = ", ".join(f"`{name}`" for name in names[:most])
    return quoted + (f" and {len(names) - most} more" if len(names) > most else "")


def _others(shape: Sequence[int], axis: int) -> list[int]:
    return [extent for number, extent in enumerate(shape) if number != axis]
