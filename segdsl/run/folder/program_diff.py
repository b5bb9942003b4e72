"""Comparing a run with the program that is to resume it, by meaning: what differs, and what may differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from segdsl.diagnostics import Diagnostic, SegError, Span
from segdsl.ir.graph import Graph, Node
from segdsl.ir.program import SECTIONS, Program, Section, TrainSubset
from segdsl.ir.word import Record, Word
from segdsl.lang.lint.program_lints import find_setting_span
from segdsl.lang.resolve import render_field, render_value
from segdsl.run.folder.layout import RunFolder
from segdsl.weights.sources import compute_weights_sha256

LOCATION_SETTINGS = ("data.root", "data.format", "data.images", "data.masks")
"""Location and format of the data. These may differ: the digest of its contents decides whether it changed."""
CHANGEABLE_SETTINGS = (
    "train.epochs", "train.stop", "train.keep", "data.cache", "data.train.workers", "data.val.workers",
    "data.val.batch", "eval", "export",
)  # fmt: skip
"""Settings that may change when a run is resumed: length, checkpoints, loading of data, what follows training."""
MAX_VALUE_LENGTH = 80
"""Longest value that a message shows, in characters."""
UNSET_TEXT = "unset"


class Difference(NamedTuple):
    """A setting by its path, with its value in the run (``old``) and now (``new``); graph nodes have a ``span``."""

    path: str
    old: str
    new: str
    span: Span | None = None

    @property
    def is_allowed(self) -> bool:
        """Whether the run can be resumed all the same."""
        return any(self.path == free or self.path.startswith(f"{free}.") for free in CHANGEABLE_SETTINGS)


def compare_programs(old: Program, new: Program) -> list[Difference]:
    """Return the differences between two programs, except in the locations of data and weights."""
    found = list(_compare_graphs(old.graph, new.graph))
    for name in SECTIONS:
        found += _compare_sections(name, getattr(old, name), getattr(new, name))
    return [one for one in found if one.path not in LOCATION_SETTINGS]


def _compare_sections(path: str, old: Section, new: Section) -> Iterator[Difference]:
    for name in type(old).model_fields:
        before, now = getattr(old, name), getattr(new, name)
        if isinstance(before, Section):
            yield from _compare_sections(f"{path}.{name}", before, now)
        elif isinstance(before, dict):
            yield from _compare_steps(f"{path}.{name}", before, now)
        else:
            yield from _compare_values(f"{path}.{name}", type(old), before, now)


def _compare_steps(path: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Difference]:
    """Compare named steps, such as augmentations; their order counts too."""
    for name in dict.fromkeys([*old, *new]):
        yield from _compare_values(f"{path}.{name}", TrainSubset, old.get(name), new.get(name))
    if list(old) != list(new) and set(old) == set(new):
        yield Difference(path, " -> ".join(old), " -> ".join(new))


def _compare_values(path: str, record: type[Record], old: Any, new: Any) -> Iterator[Difference]:
    """Compare two values; of two words of the same kind, only the arguments that differ."""
    if old == new:
        return
    if isinstance(old, Word) and type(old) is type(new):
        for name in type(old).model_fields:
            yield from _compare_values(f"{path}.{name}", type(old), getattr(old, name), getattr(new, name))
        return
    name = path.rpartition(".")[2]
    yield Difference(path, _format_value(record, name, old), _format_value(record, name, new))


def _compare_graphs(old: Graph, new: Graph) -> Iterator[Difference]:
    """Yield the first node that differs."""
    # Only the first node is reported: those computed from it mostly differ too, and would bury the cause.
    before, now = {node.path: node for node in old.nodes}, {node.path: node for node in new.nodes}
    for path in dict.fromkeys([*now, *before]):
        one, other = before.get(path), now.get(path)
        if one is None or other is None:
            yield Difference(f"model.{path}", _format_node(one), _format_node(other), other.span if other else None)
            return
        if _get_node_key(one) != _get_node_key(other):
            for found in _compare_values(f"model.{path}", Node, one.op, other.op):
                yield found._replace(span=other.span)
            if one.op == other.op:
                yield Difference(f"model.{path}", _format_node(one), _format_node(other), other.span)
            return
    if [*before] != [*now] or (old.inputs, old.outputs) != (new.inputs, new.outputs):
        yield Difference("model", _format_order(old), _format_order(new))


def _get_node_key(node: Node) -> tuple[Any, ...]:
    return node.op, node.operands, node.shape, node.module


def _format_node(node: Node | None) -> str:
    return "absent" if node is None else _shorten_text(f"{render_value(node.op)} of {', '.join(node.operands)}")


def _format_order(graph: Graph) -> str:
    return _shorten_text(" -> ".join([*graph.inputs, *(node.path for node in graph.nodes), *graph.outputs]))


def _format_value(record: type[Record], name: str, value: Any) -> str:
    return UNSET_TEXT if value is None or value == () else _shorten_text(render_field(record, name, value))


def _shorten_text(text: str) -> str:
    return text if len(text) <= MAX_VALUE_LENGTH else f"{text[: MAX_VALUE_LENGTH - 1]}…"


def compare_weights(
    folder: RunFolder, old: Program, new: Mapping[str, str], lock: Mapping[str, Any]
) -> Iterator[Difference]:
    """Yield the sources of initial weights, by part, that differ from those that the run started from."""
    for part in dict.fromkeys([*old.weights, *new]):
        before, now = old.weights.get(part), new.get(part)
        if before != now and not (before and now and _is_same_weights(before, folder.root / now, part, lock)):
            yield Difference(f"weights.{part}", before or UNSET_TEXT, now or UNSET_TEXT)


def _is_same_weights(before: str, file: Path, part: str, lock: Mapping[str, Any]) -> bool:
    # A file that was moved is the same if its digest is. Once it is gone, its name is all that can be compared.
    entry = lock.get("weights", {}).get(part)
    try:
        return entry is not None and compute_weights_sha256(file) == entry["sha256"]
    except (OSError, SegError):
        return Path(before).name == file.name


def check_resumable(folder: RunFolder, program: Program, changes: list[Difference]) -> None:
    """Reject changes that a resumed run may not have. Raises SegError (`resume-differs`) with all of them."""
    refused = [one for one in changes if not one.is_allowed]
    if not refused:
        return
    new = f"start a new run from its weights: `--weights {folder.last} --out NEW`"
    places = [one.span if one.span is not None else find_setting_span(program, one.path) for one in refused]
    diagnostics = [
        Diagnostic(
            "resume-differs",
            f"`{one.path}` is {one.old} in run `{folder.root}` but {one.new} in this program",
            f"change it back to resume the run, or {new}",
            span=place,
            path=None if place else str(folder.root),
        )
        for one, place in zip(refused, places, strict=True)
    ]
    raise SegError(diagnostics, {name: source.text for name, source in program.sources.items()})


def compare_data(old: str, new: str) -> list[Difference]:
    """Compare the contents of two datasets by their digests, if both are known."""
    if not old or not new or old == new:
        return []
    return [Difference("data", f"a dataset with digest {old[:12]}…", f"one with digest {new[:12]}…")]
