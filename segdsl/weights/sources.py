"""Resolving the weight sources of a program to files on this machine."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from segdsl.diagnostics import Diagnostic, SegError, Span, fail
from segdsl.ir.program import Program
from segdsl.storage.cache import SHA256_PATTERN, compute_file_sha256
from segdsl.text.json import parse_json
from segdsl.weights.fetch import Watcher, fetch_weights_file
from segdsl.weights.local_files import list_weights_files, require_weights_file
from segdsl.words.published import SourceError, WeightSource, parse_source


@dataclass(frozen=True, slots=True)
class WeightRequest:
    """A source of weights in a program, and the ``part`` of the model that it fills (all of it if empty).

    ``base`` is the folder to which a path is relative; ``span`` is the source's location in the program.
    """

    part: str
    source: WeightSource
    base: Path
    span: Span | None = None

    @property
    def file_path(self) -> Path:
        """The path of a local source."""
        return self.base / Path(self.source.text).expanduser()


@dataclass(frozen=True, slots=True)
class LocalWeights:
    """A request whose file is on this machine, with the path and SHA-256 of the file."""

    request: WeightRequest
    path: Path
    sha256: str


def collect_weight_requests(program: Program, weights: str | None = None) -> list[WeightRequest]:
    """Return the sources in the section `weights` of a program, or only ``weights`` for the whole model if passed.

    Raises SegError (`weights-source`).
    """
    sources = dict(program.weights) if weights is None else {"model": weights}
    found = []
    # From the whole model to the deepest part, because later sources overwrite earlier ones.
    for part, text in sorted(sources.items(), key=lambda entry: (entry[0] != "model", entry[0].count("."))):
        # A path on the command line has no span: it is relative to the current folder.
        span = program.spans.get(f"weights.{part}") if weights is None else None
        base = Path(span.file).parent if span is not None else Path()
        source = _parse_source_at(text, span)
        if source.kind != "none":
            found.append(WeightRequest("" if part == "model" else part, source, base, span))
    return found


def _parse_source_at(text: str, span: Span | None) -> WeightSource:
    try:
        return parse_source(text)
    except SourceError as error:
        raise SegError([Diagnostic("weights-source", error.message, error.help, span=span)]) from error


def locate_weights(request: WeightRequest, watcher: Watcher | None = None, expected_sha256: str = "") -> LocalWeights:
    """Return the file of a source, downloaded if needed, and verify that it has ``expected_sha256`` if passed.

    Raises SegError (`weights-missing`, `weights-unreadable`, and the errors of
    :func:`~segdsl.weights.fetch.fetch_weights_file`) at the location of the source in the program.
    """
    try:
        if request.source.is_remote:
            fetched = fetch_weights_file(request.source, watcher, expected_sha256)
            return LocalWeights(request, fetched.path, fetched.sha256)
        return LocalWeights(request, request.file_path, _verify_file_digest(request.file_path, expected_sha256))
    except SegError as error:
        raise attach_source_span(error, request.span) from error


def attach_source_span(error: SegError, span: Span | None) -> SegError:
    """Return an error about a file with its first diagnostic moved to the location of the source in the program."""
    if span is None:
        return error
    first, *others = error.diagnostics
    message = f"`{first.path}`: {first.message}" if first.path else first.message
    return SegError([replace(first, message=message, span=span), *others], error.sources)


def compute_weights_sha256(path: Path) -> str:
    """Return the SHA-256 of a weights file; of an index, that of the digests of all its files. Raises OSError."""
    digests = [compute_file_sha256(file) for file in list_weights_files(path)]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def _verify_file_digest(path: Path, expected_sha256: str) -> str:
    require_weights_file(path)
    try:
        digest = compute_weights_sha256(path)
    except OSError as error:
        raise fail("weights-unreadable", "cannot open the file", "check its permissions", path=str(path)) from error
    if expected_sha256 and digest != expected_sha256:
        message = (
            f"the run was trained with another file: SHA-256 {expected_sha256[:12]}…, but this file has {digest[:12]}…"
        )
        remedy = "restore the old file, or train the program that the run was made from"
        raise fail("weights-changed", message, remedy, path=str(path))
    return digest


def read_lock_digests(program: Program) -> Mapping[str, str]:
    """Return the SHA-256 of the weights of each part from the lock file of a run; empty for any other program."""

    # Only the program in the folder of a run has a lock beside it. An unreadable one is as good as none: the weights
    # are then loaded without the extra check.
    file = Path(next(iter(program.sources), ""))
    if file.name != "program.seg":
        return {}
    try:
        lock = parse_json(file.with_name("lock.json").read_text(encoding="utf-8"))
        entries = [(part, e["sha256"], e["source"]) for part, e in lock["weights"].items()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    known = [(part, digest) for part, digest, source in entries if source == program.weights.get(part)]
    return {part: digest for part, digest in known if isinstance(digest, str) and SHA256_PATTERN.fullmatch(digest)}
