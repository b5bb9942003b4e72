"""What became of the tensors of a file and of a model, and the table that says it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from segdsl.diagnostics.render import clean
from segdsl.weights.match_layout import AVERAGED

What = Literal["resized", "adapted", "carried", "left out", "kept", "doubtful"]
LONGEST = 100
"""Characters of a key that the table shows."""
MOST_GROUPS, MOST_LEAVES = 8, 4
"""Groups of keys that a finding of the table lists, and leaves that a group spells out."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that happened to ``keys`` beside being copied, and why.

    *resized*, *adapted* and *carried* were changed to fit; *left out* lies in the file alone, or does not fit; *kept*
    is not in the file, and stays as it started; *doubtful* speaks for the file of another model.
    """

    what: What
    keys: tuple[str, ...]
    why: str


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What was loaded into ``part`` of a model, the whole where it is empty.

    ``source`` is what was written, ``file`` the name of the file and ``sha256`` its digest; ``kind`` says what wrote it
    or whose names it has. ``place`` is the dictionary in the file that was read, ``prefix`` what was cut off the keys
    there; ``wanted`` counts the tensors of the part.
    """

    source: str
    file: str
    loaded: tuple[str, ...] = field(repr=False)
    wanted: int
    part: str = ""
    sha256: str = ""
    kind: str = ""
    place: str = ""
    prefix: str = ""
    findings: tuple[Finding, ...] = ()

    def of(self, *kinds: What) -> list[Finding]:
        """The findings of these kinds."""
        return [finding for finding in self.findings if finding.what in kinds]

    def named(self, source: str, sha256: str) -> LoadReport:
        """The same report under what was written in the program."""
        return replace(self, source=source, sha256=sha256)

    def as_json(self) -> dict[str, Any]:
        """The report as `--json` prints it."""
        return {
            "part": self.part or "model",
            "source": self.source,
            "file": self.file,
            "sha256": self.sha256,
            "kind": self.kind,
            "place": self.place,
            "prefix": self.prefix,
            "loaded": len(self.loaded),
            "wanted": self.wanted,
            "findings": [{"what": f.what, "keys": list(f.keys), "why": f.why} for f in self.findings],
        }


def load_table(reports: Sequence[LoadReport], random: Mapping[str, int], width: int = 80) -> list[str]:
    """Lines that say what was loaded and what was not; ``random`` counts the tensors of each part that nothing filled.

    Lines are broken at ``width`` columns where a word allows it.
    """
    parts = [report.part or "model" for report in reports]
    name = max(map(len, ["part", *parts, *random]))
    counts = [f"{len(report.loaded):,} of {report.wanted:,}" for report in reports]
    counts += [f"0 of {number:,}" for number in random.values()]
    count = max(map(len, ["tensors", *counts]))
    lines = [f"{'part':{name}}  {'tensors':{count}}  weights"]
    for part, number, report in zip(parts, counts, reports, strict=False):
        lines += _wrapped(f"{part:{name}}  {number:{count}}  ", _origin(report), width)
        for finding in report.findings:
            label = "  doubtful: " if finding.what == "doubtful" else f"  {finding.what}: "
            lines += _wrapped(label, f"{', '.join(_limited(grouped(finding.keys)))}: {finding.why}", width)
    for part, number in zip(random, counts[len(reports) :], strict=True):
        lines.append(f"{part:{name}}  {number:{count}}  start at random")
    return lines


def _origin(report: LoadReport) -> str:
    details = [report.file] if report.file != report.source.rpartition("/")[2] else []
    details += [report.kind] if report.kind else []
    copy = f"{report.place}.{report.prefix}".strip(".")
    details += [f"the averaged copy in `{copy}`"] if AVERAGED.search(copy) else []
    details += [f"SHA-256 {report.sha256[:12]}"] if report.sha256 else []
    return f"{report.source} ({', '.join(details)})" if details else report.source


def _wrapped(label: str, text: str, width: int) -> list[str]:
    room = max(width - len(label), 24)
    label = clean(label)
    lines = textwrap.wrap(clean(text), room, break_long_words=False, break_on_hyphens=False) or [""]
    return [label + lines[0], *(" " * len(label) + line for line in lines[1:])]


def grouped(keys: Iterable[str]) -> list[str]:
    """Keys as a person lists them: the few of one layer together (`head.{weight, bias}`), the many of one part counted
    (`decode_head.* (14 tensors)`)."""
    by_layer: dict[str, list[str]] = {}
    for key in keys:
        key = key if len(key) <= LONGEST else f"{key[:LONGEST]}…"
        layer, _, leaf = key.rpartition(".")
        by_layer.setdefault(layer, []).append(leaf)
    if len(by_layer) > MOST_LEAVES:
        return _by_part(by_layer)
    return [_layer(layer, leaves) for layer, leaves in by_layer.items()]


def _layer(layer: str, leaves: Sequence[str]) -> str:
    start = f"{layer}." if layer else ""
    if len(leaves) == 1:
        return f"`{start}{leaves[0]}`"
    if len(leaves) > MOST_LEAVES:
        return f"`{start}*` ({len(leaves)} tensors)"
    return f"`{start}{{{', '.join(leaves)}}}`"


def _by_part(by_layer: Mapping[str, Sequence[str]]) -> list[str]:
    """Layers under the shortest paths that tell them apart in few groups."""
    depth = 1
    while True:
        sizes: dict[str, int] = {}
        for layer, leaves in by_layer.items():
            part = ".".join(layer.split(".")[:depth])
            sizes[part] = sizes.get(part, 0) + len(leaves)
        deeper = {".".join(layer.split(".")[: depth + 1]) for layer in by_layer}
        if len(deeper) == 1:
            depth += 1
            continue
        if len(sizes) > 1 or depth > 1 or len(deeper) > MOST_GROUPS or len(deeper) == len(sizes):
            return [f"`{part}.*` ({number} tensors)" if number > 1 else f"`{part}.*`" for part, number in sizes.items()]
        depth += 1


def _limited(groups: Sequence[str]) -> list[str]:
    more = len(groups) - MOST_GROUPS
    return [*groups[:MOST_GROUPS], *([f"and {more} more"] if more > 0 else [])]
