"""Loading the tensors of a weights file into a model, and reporting what happened to each."""

from __future__ import annotations

from collections.abc import Collection, Container, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from segdsl.diagnostics import fail, suggest_name
from segdsl.ir.graph import Graph
from segdsl.text.listing import quote_names
from segdsl.text.plural import format_count
from segdsl.weights.adapt import INPUT_SIZE_KEY, Grid, adapt_channels, find_stem_keys, infer_grid, resize_table
from segdsl.weights.classes import find_class_keys, match_rows
from segdsl.weights.files import read_weights
from segdsl.weights.layouts import detect_file_kind, find_drop_reason, find_spare_reason, read_class_names
from segdsl.weights.match_layout import LayoutMatch, find_best_match
from segdsl.weights.mismatch_report import KeyMismatches, MismatchedFile, build_mismatch_error
from segdsl.weights.report import Finding, LoadReport, Outcome


class ClassifierRules(NamedTuple):
    """How a file may differ from the model: its classifier by the names of ``classes``, its stem if ``adapt``."""

    classes: tuple[str, ...]
    adapt: bool


def load_weights(
    model: nn.Module,
    path: str | Path,
    *,
    part: str = "",
    graph: Graph | None = None,
    classes: Sequence[str] = (),
    adapt: bool = False,
) -> LoadReport:
    """Copy the tensors of a file into ``model``, or into the part of it at the path ``part``.

    The file must fill the whole part, except for a classifier of other classes: its rows are matched by name to
    ``classes``, else it keeps its initial values. ``graph`` is needed to resize position tables, and ``adapt`` adapts
    filters over the image to other channels.

    Raises SegError (`weights-missing`, `weights-unreadable`, `weights-do-not-fit`); in that case nothing was copied.
    """
    return _fill_model(
        model, Path(path), part, graph, None if graph is None else ClassifierRules(tuple(classes), adapt)
    )


def load_checkpoint(model: nn.Module, path: str | Path, graph: Graph | None = None) -> LoadReport:
    """Copy a checkpoint of the model itself into ``model``.

    Only position tables may be changed to fit, and the file must not contain anything else. Raises SegError like
    :func:`load_weights`.
    """
    return _fill_model(model, Path(path), "", graph, None, exact=True)


def _fill_model(
    model: nn.Module, path: Path, part: str, graph: Graph | None, rules: ClassifierRules | None, exact: bool = False
) -> LoadReport:
    start = f"{part}." if part else ""
    ours = {key: value for key, value in model.state_dict().items() if key.startswith(start)}
    if not ours:
        parts = {name for name, _ in model.named_modules() if name}
        raise fail(
            "weights-do-not-fit", f"the model has no part `{part}` with weights", suggest_name(part, parts, "parts")
        )
    content, metadata = read_weights(path)
    match = find_best_match(content, ours, start)
    fit = _WeightFitter(str(path), ours, match, detect_file_kind(content, metadata), graph)
    # Every step works on tensors of the file only. The model is written last, when nothing can fail any more.
    fit.require_unambiguous_match(part)
    fit.require_dense_tensors()
    fit.drop_by_rules()
    fit.resize_position_tables(metadata)
    if rules is not None:
        fit.carry_class_rows(read_class_names(content, metadata), rules.classes)
        fit.adapt_stems(rules.adapt)
    fit.exempt_absent_keys(exact)
    gaps = fit.find_mismatches(exact)
    if not gaps.total and not fit.keys_to_load:
        why = fit.findings[0].reason if fit.findings else "the file contains only batch counters"
        raise fail("weights-do-not-fit", f"no tensor to load: {why}", "remove it from `weights`", path=str(path))
    if gaps.total:
        error = MismatchedFile(str(path), content, ours, fit.match, gaps, part)
        raise build_mismatch_error(error, fit.remedies)
    fit.convert_dtypes()
    fit.explain_leftovers(start, model.state_dict())
    with torch.no_grad():
        for key in fit.keys_to_load:
            ours[key].copy_(fit.tensors[key])
    return LoadReport(
        str(path),
        Path(path).name,
        fit.keys_to_load,
        len(ours),
        part,
        "",
        match.layout or fit.kind,
        match.container,
        match.prefix,
        tuple(fit.findings),
    )


@dataclass(slots=True)
class _WeightFitter:
    """The tensors of a file while they are fitted to a model: each step changes what does not fit yet and records it.

    ``exempt_keys`` are keys of the model that the file need not have; ``remedies`` are the help texts for keys that do
    not fit.
    """

    path: str
    model_tensors: Mapping[str, Tensor]
    match: LayoutMatch
    kind: str
    graph: Graph | None
    findings: list[Finding] = field(default_factory=list)
    exempt_keys: set[str] = field(default_factory=set)
    remedies: dict[str, str] = field(default_factory=dict)

    @property
    def tensors(self) -> dict[str, Tensor]:
        return self.match.tensors

    @property
    def keys_to_load(self) -> tuple[str, ...]:
        return tuple(key for key in self.model_tensors if self._is_loadable(key))

    def _is_loadable(self, key: str) -> bool:
        return key in self.tensors and self.tensors[key].shape == self.model_tensors[key].shape

    def add_finding(self, outcome: Outcome, keys: Sequence[str], reason: str) -> None:
        """Add a finding, or extend the last one if it has the same outcome and reason."""
        last = self.findings[-1] if self.findings else None
        if last and (last.outcome, last.reason) == (outcome, reason):
            self.findings[-1] = Finding(outcome, (*last.keys, *keys), reason)
        elif keys:
            self.findings.append(Finding(outcome, tuple(keys), reason))

    def require_unambiguous_match(self, part: str) -> None:
        """Fail if several places in the file fit equally well but have different values."""
        if self.match.rivals:
            places = ", ".join(f"`{place}`" for place in (self.match.location, *self.match.rivals)[:4])
            target = f"`{part}`" if part else "the model"
            message = f"several places in the file fit {target}, with different values: {places}"
            remedy = "save only the right one to a file, or fill a larger part that only one place fits"
            raise fail("weights-do-not-fit", message, remedy, path=self.path)

    def require_dense_tensors(self) -> None:
        """Fail if a tensor is sparse, quantized, without values, or not of a floating-point type where needed."""
        for key, value in self.tensors.items():
            found = _describe_incompatibility(value, self.model_tensors[key])
            if found:
                remedy = "save the weights as ordinary dense tensors"
                raise fail("weights-unreadable", f"`{key}` {found}", remedy, path=self.path)

    def convert_dtypes(self) -> None:
        """Convert the tensors to the dtypes of the model, and fail if a value is not finite."""
        for key in self.keys_to_load:
            # Checked after the conversion, which turns numbers beyond the range of the new dtype into infinity.
            value = self.tensors[key].to(self.model_tensors[key].dtype)
            if value.is_floating_point() and not bool(torch.isfinite(value).all()):
                message = f"`{key}` contains values that are not finite"
                remedy = "use an earlier checkpoint: the training that wrote this one had diverged"
                raise fail("weights-unreadable", message, remedy, path=self.path)
            self.tensors[key] = value

    def drop_by_rules(self) -> None:
        """Remove the tensors that must not be loaded from files of this kind."""
        for key in list(self.tensors):
            why = find_drop_reason(self.kind, key)
            if why:
                del self.tensors[key]
                self.exempt_keys.add(key)
                self.add_finding("kept", [key], why)

    def resize_position_tables(self, metadata: Mapping[str, str]) -> None:
        """Resize position tables that were made for another grid."""
        for key, table in (self.graph.collect_tables() if self.graph else {}).items():
            values, wanted = self.tensors.get(key), self.model_tensors.get(key)
            if values is None or wanted is None or not values.is_floating_point() or values.dim() != wanted.dim():
                continue
            axis = table.axis
            if _drop_axis(values.shape, axis) != _drop_axis(wanted.shape, axis):
                continue
            # Tables of equal size can have different grids (4x9 and 6x6 cells), but only a file that states its size
            # tells them apart.
            if values.shape == wanted.shape and INPUT_SIZE_KEY not in metadata:
                continue
            assert self.graph is not None
            old, new = infer_grid(table, values.shape[axis], metadata), table.evaluate_grid(self.graph.size)
            if old is None:
                self.remedies[key] = _explain_grid_mismatch(metadata)
            elif old != new and table.first + new[0] * new[1] == wanted.shape[axis]:
                self.tensors[key] = resize_table(values, table, old, new)
                self.add_finding("resized", [key], f"from {_format_grid(old)} positions to {_format_grid(new)}")

    def carry_class_rows(self, file_classes: Sequence[str], model_classes: Sequence[str]) -> None:
        """Match the rows of classifier layers by class name, if both the file and the model have names."""
        assert self.graph is not None
        keys = set(find_class_keys(self.graph)) & set(self.tensors)
        counts = {len(self.tensors[key]) if self.tensors[key].dim() else 0 for key in keys}
        # No classifier was found, or its layers disagree on the number of classes.
        if len(counts) != 1 or 0 in counts:
            return
        for key, ours in self.model_tensors.items():
            value = self.tensors[key] if key in keys else None
            if value is not None and value.dim() == ours.dim() and value.shape[1:] == ours.shape[1:]:
                self._carry_rows_of(key, ours, file_classes, model_classes)

    def _carry_rows_of(
        self, key: str, ours: torch.Tensor, file_classes: Sequence[str], model_classes: Sequence[str]
    ) -> None:
        """Match the rows of one tensor by class name, or leave the tensor out if no class matches."""
        value = self.tensors[key]
        rows = match_rows(file_classes, len(value), model_classes)
        if len(value) == len(ours) and (rows is None or rows.is_identity):
            if rows is None and model_classes:
                self.add_finding("carried", [key], "all rows in file order: the file does not name its classes")
            return
        if rows is not None and rows.common_classes:
            self.tensors[key] = rows.copy_rows(value, ours)
            fresh = f"; random: {quote_names(rows.new_classes)}" if rows.new_classes else ""
            self.add_finding("carried", [key], f"rows matched by name: {quote_names(rows.common_classes)}{fresh}")
            return
        noun = "class" if len(value) == 1 else "classes"
        why = f"the file has {len(value)} {noun}, the program has {len(ours)}"
        if rows is not None:
            why = f"the program has none of the file's classes ({quote_names(file_classes)})"
        del self.tensors[key]
        self.exempt_keys.add(key)
        self.add_finding("left out", [key], f"{why}; starts from random values")

    def adapt_stems(self, is_enabled: bool) -> None:
        """Adapt the filters over the image to its channels if ``is_enabled``, otherwise suggest the setting."""
        assert self.graph is not None
        for key in find_stem_keys(self.graph):
            ours, value = self.model_tensors.get(key), self.tensors.get(key)
            if ours is None or value is None or value.dim() != ours.dim() or value.shape == ours.shape:
                continue
            if _drop_axis(value.shape, 1) != _drop_axis(ours.shape, 1) or not value.shape[1]:
                continue
            old, new = value.shape[1], ours.shape[1]
            if is_enabled:
                self.tensors[key] = adapt_channels(value.float(), new)
                self.add_finding("adapted", [key], f"from {old} to {format_count(new, 'channel')}")
            else:
                noun = "channel" if old == 1 else "channels"
                self.remedies[key] = f"set `weights.adapt = true` to adapt its {old} {noun} to {new}"

    def exempt_absent_keys(self, is_exact: bool) -> None:
        """Exempt the keys that may be missing in a file: batch counters and tensors that are never trained."""
        state = self.graph.collect_state() if self.graph and not is_exact else {}
        for key in self.model_tensors:
            if key in self.tensors:
                continue
            # Files from before PyTorch 0.4.1 have no counter, and only batch norm without momentum reads it.
            if key.endswith(".num_batches_tracked"):
                self.exempt_keys.add(key)
            elif key in state and state[key].kind == "fixed" and key not in self.exempt_keys:
                self.exempt_keys.add(key)
                self.add_finding("kept", [key], "not in the file and never trained")

    def find_mismatches(self, is_exact: bool) -> KeyMismatches:
        """Return the keys that do not match; keys that only the file has count only for an exact load."""
        missing = [key for key in self.model_tensors if key not in self.tensors and key not in self.exempt_keys]
        differ = [key for key in self.model_tensors if key in self.tensors and not self._is_loadable(key)]
        return KeyMismatches(tuple(missing), tuple(differ), tuple(self.match.leftovers) if is_exact else ())

    def explain_leftovers(self, key_prefix: str, model_keys: Collection[str]) -> None:
        """Record why the remaining tensors of the file were left out; ``model_keys`` are the keys of all parts."""
        prefix = self.match.prefix
        tops = {key[len(key_prefix) :].partition(".")[0] for key in self.model_tensors}
        inside: list[str] = []
        known: dict[str, list[str]] = {}
        depth = max(key.count(".") for key in model_keys) + 1
        usual = f"outside `{key_prefix[:-1]}`, the only part to fill" if key_prefix else "the model has no such part"
        for key in self.match.leftovers:
            # A classifier of pretraining is recognized by its name, unless the model itself has a key of that name.
            why = "" if _is_model_key(model_keys, key, depth) else find_spare_reason(key)
            if not why and key.startswith(prefix) and key[len(prefix) :].partition(".")[0] in tops:
                inside.append(key)
            else:
                known.setdefault(why or usual, []).append(key)
        for why, keys in known.items():
            self.add_finding("left out", keys, why)
        self.add_finding("doubtful", inside, "the model has no such layers there; the file may belong to another model")


def _is_model_key(model_keys: Container[str], key: str, max_depth: int) -> bool:
    """Return whether a key of a file ends in a key of the model; these have at most ``max_depth`` parts."""
    names = key.rsplit(".", max_depth)
    return any(".".join(names[begin:]) in model_keys for begin in range(len(names)))


def _describe_incompatibility(value: Tensor, model_tensor: Tensor) -> str:
    if value.is_meta:
        return "is stored as a tensor without values"
    if value.layout != torch.strided or value.is_quantized:
        return f"is a {'quantized' if value.is_quantized else 'sparse'} tensor"
    if model_tensor.is_floating_point() and not value.is_floating_point():
        return f"has dtype {str(value.dtype).removeprefix('torch.')}, but the model needs floating-point values"
    return ""


def _explain_grid_mismatch(metadata: Mapping[str, str]) -> str:
    if INPUT_SIZE_KEY in metadata:
        size = metadata[INPUT_SIZE_KEY][:20]
        return f"the file states the input size {size}, which does not match its number of positions"
    return "the number of its positions is not a square: set `data.input_size` to the size the file was made for"


def _format_grid(grid: Grid) -> str:
    return f"{grid[0]}x{grid[1]}"


def _drop_axis(shape: Sequence[int], axis: int) -> list[int]:
    return [extent for number, extent in enumerate(shape) if number != axis]
