"""What differs between a run and the program that is to go on with it, by meaning, and what may."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from segdsl.diagnostics import Diagnostic, SegError, Span
from segdsl.ir.graph import Graph, Node
from segdsl.ir.program import SECTIONS, Program, Section, TrainSubset
from segdsl.ir.word import Record, Word
from segdsl.lang.lint.program_lints import at_path
from segdsl.lang.resolve import spell, spell_field
from segdsl.run.folder.layout import RunFolder
from segdsl.storage.cache import digest_of

PLACES = ("data.root", "data.format", "data.images", "data.masks")
"""Where the data lies and how: the digest of what is in it tells whether it is another."""
FREE = (
    "train.epochs", "train.stop", "train.keep", "data.cache", "data.train.workers", "data.val.workers",
    "data.val.batch", "eval", "export",
)  # fmt: skip
"""What may be another when a run goes on: how long it is, what is kept of it, how it is loaded, what comes after it."""
MOST_TEXT = 80
"""Characters of a value that a message shows."""
UNSET = "nothing"


class Difference(NamedTuple):
    """A setting by its path, as it was in the run (``old``) and as it is now; a node of the graph has its ``span``."""

    path: str
    old: str
    new: str
    span: Span | None = None

    @property
    def may_be(self) -> bool:
        """Whether a run goes on all the same."""
        return any(self.path == free or self.path.startswith(f"{free}.") for free in FREE)


def differences(old: Program, new: Program) -> list[Difference]:
    """What the sections and the graphs of two programs have that differs, but for where data and weights lie."""
    found = list(_graph_differences(old.graph, new.graph))
    for name in SECTIONS:
        found += _section_differences(name, getattr(old, name), getattr(new, name))
    return [one for one in found if one.path not in PLACES]


def _section_differences(path: str, old: Section, new: Section) -> Iterator[Difference]:
    for name in type(old).model_fields:
        before, now = getattr(old, name), getattr(new, name)
        if isinstance(before, Section):
            yield from _section_differences(f"{path}.{name}", before, now)
        elif isinstance(before, dict):
            yield from _step_differences(f"{path}.{name}", before, now)
        else:
            yield from _value_differences(f"{path}.{name}", type(old), before, now)


def _step_differences(path: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Difference]:
    """Named steps, of which the order counts too."""
    for name in dict.fromkeys([*old, *new]):
        yield from _value_differences(f"{path}.{name}", TrainSubset, old.get(name), new.get(name))
    if list(old) != list(new) and set(old) == set(new):
        yield Difference(path, " -> ".join(old), " -> ".join(new))


def _value_differences(path: str, record: type[Record], old: Any, new: Any) -> Iterator[Difference]:
    """Of two components of one name, the arguments that differ."""
    if old == new:
        return
    if isinstance(old, Word) and type(old) is type(new):
        for name in type(old).model_fields:
            yield from _value_differences(f"{path}.{name}", type(old), getattr(old, name), getattr(new, name))
        return
    name = path.rpartition(".")[2]
    yield Difference(path, _text(record, name, old), _text(record, name, new))


def _graph_differences(old: Graph, new: Graph) -> Iterator[Difference]:
    """The first node that differs: what comes behind it differs, too."""
    before, now = {node.path: node for node in old.nodes}, {node.path: node for node in new.nodes}
    for path in dict.fromkeys([*now, *before]):
        one, other = before.get(path), now.get(path)
        if one is None or other is None:
            yield Difference(f"model.{path}", _node_text(one), _node_text(other), other.span if other else None)
            return
        if _meaning(one) != _meaning(other):
            for found in _value_differences(f"model.{path}", Node, one.op, other.op):
                yield found._replace(span=other.span)
            if one.op == other.op:
                yield Difference(f"model.{path}", _node_text(one), _node_text(other), other.span)
            return
    if [*before] != [*now] or (old.inputs, old.outputs) != (new.inputs, new.outputs):
        yield Difference("model", _order(old), _order(new))


def _meaning(node: Node) -> tuple[Any, ...]:
    return node.op, node.operands, node.shape, node.module


def _node_text(node: Node | None) -> str:
    return UNSET if node is None else _shortened(f"{spell(node.op)} of {', '.join(node.operands)}")


def _order(graph: Graph) -> str:
    return _shortened(" -> ".join([*graph.inputs, *(node.path for node in graph.nodes), *graph.outputs]))


def _text(record: type[Record], name: str, value: Any) -> str:
    return UNSET if value is None or value == () else _shortened(spell_field(record, name, value))


def _shortened(text: str) -> str:
    return text if len(text) <= MOST_TEXT else f"{text[: MOST_TEXT - 1]}…"


def weights_differences(folder: RunFolder, old: Program, new: Program, lock: Mapping[str, Any]) -> Iterator[Difference]:
    """The sources of weights that are others than those that the run began with.

    A file on another path is the same where its digest is, and one that is gone where its name is.
    """
    for part in dict.fromkeys([*old.weights, *new.weights]):
        before, now = old.weights.get(part), new.weights.get(part)
        if before != now and not (before and now and _is_same(before, folder.root / now, part, lock)):
            yield Difference(f"weights.{part}", before or UNSET, now or UNSET)


def _is_same(before: str, file: Path, part: str, lock: Mapping[str, Any]) -> bool:
    entry = lock.get("weights", {}).get(part)
    try:
        return entry is not None and digest_of(file) == entry["sha256"]
    except OSError:
        return Path(before).name == file.name


def require_same(folder: RunFolder, program: Program, found: list[Difference]) -> None:
    """Refuses to go on with what may not be another. Raises SegError (`resume-differs`) with all of it."""
    refused = [one for one in found if not one.may_be]
    if not refused:
        return
    new = f"begin a new run from its weights: `--weights {folder.last} --out NEW`"
    places = [one.span if one.span is not None else at_path(program, one.path) for one in refused]
    diagnostics = [
        Diagnostic(
            "resume-differs",
            f"the run in `{folder.root}` has `{one.path}` = {one.old}, and here it is {one.new}",
            f"make it what it was to go on, or {new}",
            span=place,
            path=None if place else str(folder.root),
        )
        for one, place in zip(refused, places, strict=True)
    ]
    raise SegError(diagnostics, {name: source.text for name, source in program.sources.items()})


def data_difference(old: str, new: str) -> list[Difference]:
    """The contents of a data set, by their digests, where these are known."""
    if not old or not new or old == new:
        return []
    return [Difference("data", f"a data set of the digest {old[:12]}…", f"one of {new[:12]}…")]
