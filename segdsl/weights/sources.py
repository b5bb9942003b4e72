"""From what a program says of its weights to files of this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from segdsl.diagnostics import Diagnostic, SegError, Span, fail
from segdsl.ir.program import Program
from segdsl.storage.cache import DIGEST, digest_of
from segdsl.weights.fetch import Watcher, fetch
from segdsl.weights.file_suggestions import require_file
from segdsl.words.published import SourceError, WeightSource, parse_source


@dataclass(frozen=True, slots=True)
class Wanted:
    """A source of weights of a program: ``part`` is filled from it, the whole model where that is empty; ``base`` is
    the folder that a path is relative to, ``span`` where it is written."""

    part: str
    source: WeightSource
    base: Path
    span: Span | None = None

    @property
    def file(self) -> Path:
        """The path of a source that is one."""
        return self.base / Path(self.source.text).expanduser()


@dataclass(frozen=True, slots=True)
class Located:
    """A source whose file is here; ``sha256`` is the file's."""

    wanted: Wanted
    path: Path
    sha256: str


def wanted_weights(program: Program, weights: str | None = None) -> list[Wanted]:
    """What a program starts from: what its section `weights` says, or ``weights`` for the whole model instead.

    A whole model comes before the parts of it, which are more particular. Raises SegError (`weights-source`).
    """
    said = dict(program.weights) if weights is None else {"model": weights}
    found = []
    for part, text in sorted(said.items(), key=lambda entry: (entry[0] != "model", entry[0].count("."))):
        span = program.spans.get(f"weights.{part}") if weights is None else None
        base = Path(span.file).parent if span is not None else Path()
        source = _parsed(text, span)
        if source.kind != "none":
            found.append(Wanted("" if part == "model" else part, source, base, span))
    return found


def _parsed(text: str, span: Span | None) -> WeightSource:
    try:
        return parse_source(text)
    except SourceError as error:
        raise SegError([Diagnostic("weights-source", error.message, error.help, span=span)]) from error


def locate(wanted: Wanted, watcher: Watcher | None = None, expected: str = "") -> Located:
    """The file of a source, fetched if need be, and held to the SHA-256 ``expected`` where that is given.

    Raises SegError (`weights-missing`, `weights-unreadable`, and what :func:`~segdsl.weights.fetch.fetch` raises), at
    the place where the source is written.
    """
    try:
        if wanted.source.is_remote:
            fetched = fetch(wanted.source, watcher, expected)
            return Located(wanted, fetched.path, fetched.sha256)
        return Located(wanted, wanted.file, _digest(wanted.file, expected))
    except SegError as error:
        raise placed(error, wanted.span) from error


def placed(error: SegError, span: Span | None) -> SegError:
    """An error about a file, whose first finding names the file and stands where a program names its source."""
    if span is None:
        return error
    first, *others = error.diagnostics
    message = f"`{first.path}`: {first.message}" if first.path else first.message
    return SegError([replace(first, message=message, span=span), *others], error.sources)


def _digest(path: Path, expected: str) -> str:
    require_file(path)
    try:
        digest = digest_of(path)
    except OSError as error:
        raise fail(
            "weights-unreadable", "the file cannot be opened", "check its permissions", path=str(path)
        ) from error
    if expected and digest != expected:
        message = f"the file is not the one that the run was made with: SHA-256 {digest[:12]}…, not {expected[:12]}…"
        remedy = "put the old file back, or train the program that the run was made from"
        raise fail("weights-changed", message, remedy, path=str(path))
    return digest


def locked_digests(program: Program) -> Mapping[str, str]:
    """The SHA-256 of the weights that a run was made with, by part, where ``program`` is a run's: from its lock."""
    import json

    file = Path(next(iter(program.sources), ""))
    if file.name != "program.seg":
        return {}
    try:
        lock = json.loads(file.with_name("lock.json").read_text(encoding="utf-8"))
        entries = [(part, e["sha256"], e["source"]) for part, e in lock["weights"].items()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
    known = [(part, digest) for part, digest, source in entries if source == program.weights.get(part)]
    return {part: digest for part, digest in known if isinstance(digest, str) and DIGEST.fullmatch(digest)}
