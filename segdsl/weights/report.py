"""The report of loading weights: what happened to the tensors of the file and of the model, and its table."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from segdsl.text.columns import sanitize_text
from segdsl.text.listing import join_names
from segdsl.weights.match_layout import AVERAGE_PATTERN

Outcome = Literal["resized", "adapted", "carried", "left out", "kept", "doubtful"]
# Longer keys are truncated in the table. A file can contain a key of any length.
MAX_KEY_LENGTH = 100
# Limits of the table: groups of keys for each finding, and tensors listed by name in each group.
MAX_GROUPS, MAX_LEAVES = 8, 4


@dataclass(frozen=True, slots=True)
class Finding:
    """An outcome for ``keys`` other than a plain copy, and its reason.

    *resized*, *adapted* and *carried* tensors were changed to fit. *left out* tensors are only in the file, or do not
    fit. *kept* tensors are not in the file and keep their initial values. *doubtful* tensors suggest that the file
    belongs to another model.
    """

    outcome: Outcome
    keys: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What was loaded into ``part`` of a model, or into the whole model if ``part`` is empty.

    ``source`` is the source as written in the program, ``file`` the name of the file, ``sha256`` its digest, and
    ``kind`` the tool that wrote it or the layout of its keys. ``container`` is the path of the dictionary that was
    read, and ``prefix`` was removed from the keys in it. ``keys_loaded`` are the keys of the ``total`` tensors of the
    part that were loaded.
    """

    source: str
    file: str
    keys_loaded: tuple[str, ...] = field(repr=False)
    total: int
    part: str = ""
    sha256: str = ""
    kind: str = ""
    container: str = ""
    prefix: str = ""
    findings: tuple[Finding, ...] = ()

    def select_findings(self, *kinds: Outcome) -> list[Finding]:
        """Return the findings with one of these outcomes."""
        return [finding for finding in self.findings if finding.outcome in kinds]

    def with_source(self, source: str, sha256: str) -> LoadReport:
        """Return the report with the source as written in the program and the digest of the file."""
        return replace(self, source=source, sha256=sha256)

    def as_json(self) -> dict[str, Any]:
        """Return the report as `--json` prints it."""
        return {
            "part": self.part or "model",
            "source": self.source,
            "file": self.file,
            "sha256": self.sha256,
            "kind": self.kind,
            "place": self.container,
            "prefix": self.prefix,
            "loaded": len(self.keys_loaded),
            "wanted": self.total,
            "findings": [{"what": f.outcome, "keys": list(f.keys), "why": f.reason} for f in self.findings],
        }


def format_load_table(reports: Sequence[LoadReport], random_parts: Mapping[str, int], width: int = 80) -> list[str]:
    """Return the lines of a table of what was loaded, wrapped at ``width`` columns.

    ``random_parts`` maps each part that no source fills to its number of tensors.
    """
    parts = [report.part or "model" for report in reports]
    name = max(map(len, ["part", *parts, *random_parts]))
    counts = [f"{len(report.keys_loaded):,} of {report.total:,}" for report in reports]
    counts += [f"0 of {number:,}" for number in random_parts.values()]
    count = max(map(len, ["tensors", *counts]))
    lines = [f"{'part':{name}}  {'tensors':{count}}  weights"]
    for part, number, report in zip(parts, counts, reports, strict=False):
        lines += _wrap_cell(f"{part:{name}}  {number:{count}}  ", _format_origin(report), width)
        for finding in report.findings:
            label = "  doubtful: " if finding.outcome == "doubtful" else f"  {finding.outcome}: "
            lines += _wrap_cell(label, f"{join_names(group_keys(finding.keys), MAX_GROUPS)}: {finding.reason}", width)
    for part, number in zip(random_parts, counts[len(reports) :], strict=True):
        lines.append(f"{part:{name}}  {number:{count}}  random initialization")
    return lines


def _format_origin(report: LoadReport) -> str:
    details = [report.file] if report.file != report.source.rpartition("/")[2] else []
    details += [report.kind] if report.kind else []
    copy = f"{report.container}.{report.prefix}".strip(".")
    details += [f"the averaged copy in `{copy}`"] if AVERAGE_PATTERN.search(copy) else []
    details += [f"SHA-256 {report.sha256[:12]}"] if report.sha256 else []
    return f"{report.source} ({', '.join(details)})" if details else report.source


def _wrap_cell(label: str, text: str, width: int) -> list[str]:
    # Keys and names come from the file and could contain terminal escape sequences: `clean` removes them.
    room = max(width - len(label), 24)
    label = sanitize_text(label)
    lines = textwrap.wrap(sanitize_text(text), room, break_long_words=False, break_on_hyphens=False) or [""]
    return [label + lines[0], *(" " * len(label) + line for line in lines[1:])]


def group_keys(keys: Iterable[str]) -> list[str]:
    """Return a short list of keys: grouped by layer (`head.{weight, bias}`), or counted by part if there are many.

    A counted part reads `decode_head.* (14 tensors)`.
    """
    by_layer: dict[str, list[str]] = {}
    for key in keys:
        key = key if len(key) <= MAX_KEY_LENGTH else f"{key[:MAX_KEY_LENGTH]}…"
        layer, _, leaf = key.rpartition(".")
        by_layer.setdefault(layer, []).append(leaf)
    if len(by_layer) > MAX_LEAVES:
        return _group_by_part(by_layer)
    return [_format_layer(layer, leaves) for layer, leaves in by_layer.items()]


def _format_layer(layer: str, leaves: Sequence[str]) -> str:
    start = f"{layer}." if layer else ""
    if len(leaves) == 1:
        return f"`{start}{leaves[0]}`"
    if len(leaves) > MAX_LEAVES:
        return f"`{start}*` ({len(leaves)} tensors)"
    return f"`{start}{{{', '.join(leaves)}}}`"


def _group_by_part(by_layer: Mapping[str, Sequence[str]]) -> list[str]:
    """Group layers by the shortest paths that give several groups, but not too many."""
    depth = 1
    while True:
        # One level deeper at a time, until another level would give too many groups or no new ones.
        sizes: dict[str, int] = {}
        for layer, leaves in by_layer.items():
            part = ".".join(layer.split(".")[:depth])
            sizes[part] = sizes.get(part, 0) + len(leaves)
        deeper = {".".join(layer.split(".")[: depth + 1]) for layer in by_layer}
        if len(deeper) == 1:
            depth += 1
            continue
        if len(sizes) > 1 or depth > 1 or len(deeper) > MAX_GROUPS or len(deeper) == len(sizes):
            return [f"`{part}.*` ({number} tensors)" if number > 1 else f"`{part}.*`" for part, number in sizes.items()]
        depth += 1
