"""Spans, diagnostics, and the error that carries them to the user.

Every layer reports through this module, so it imports nothing heavy and nothing else of segdsl at import time. The
explanation of each slug is in ``segdsl/explain/*.md``; a test checks that code and explanations have the same slugs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from segdsl.text.listing import quote_names

Severity = Literal["error", "warning", "note"]


class Span(NamedTuple):
    """A range of a source text: ``file`` is a key of the sources, ``start:end`` are offsets in code points."""

    file: str
    start: int
    end: int

    def extend_to(self, other: Span) -> Span:
        """Return the span from the start of this one to the end of ``other``."""
        return Span(self.file, self.start, max(self.end, other.end))


class Position(NamedTuple):
    """One-based line and column."""

    line: int
    column: int


def find_position(text: str, offset: int) -> Position:
    """Return the line and column (both from 1) of ``offset`` in ``text``."""
    offset = min(offset, len(text))
    return Position(text.count("\n", 0, offset) + 1, offset - (text.rfind("\n", 0, offset) + 1) + 1)


class Label(NamedTuple):
    """A secondary place of a diagnostic, with the text shown below it."""

    span: Span
    text: str


class Fix(NamedTuple):
    """A replacement that tools may apply without asking: ``span`` becomes ``text``."""

    span: Span
    text: str


class Setting(NamedTuple):
    """A setting that remedies a problem, as `--set` takes it: its path, and its value as it is written."""

    path: str
    value: str

    def __str__(self) -> str:
        return f"{self.path} = {self.value}"


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """An error, warning or note.

    ``slug`` identifies the kind of problem, ``message`` states the problem, ``help`` states the remedy. ``span`` points
    into a program; ``path`` is a file other than a program (an image, a checkpoint). ``label`` is shown at the span,
    ``labels`` are secondary places. ``settings`` together are a remedy that `segdsl new` may write into a program.
    """

    slug: str
    message: str
    help: str
    span: Span | None = None
    path: str | None = None
    label: str = ""
    labels: tuple[Label, ...] = ()
    severity: Severity = "error"
    fix: Fix | None = None
    settings: tuple[Setting, ...] = ()


class SegError(Exception):
    """An error in the user's input, with its ``diagnostics`` and the ``sources`` that their spans refer to."""

    def __init__(self, diagnostics: Iterable[Diagnostic], sources: Mapping[str, str] | None = None) -> None:
        self.diagnostics = tuple(diagnostics)
        self.sources = dict(sources or {})
        super().__init__("; ".join(f"{d.slug}: {d.message}" for d in self.diagnostics))


class SignalInterrupt(KeyboardInterrupt):
    """A training run stopped by a signal, with its state saved; ``help`` says how to resume it."""

    def __init__(self, signal_number: int, help: str = "start it again") -> None:
        super().__init__(signal_number)
        self.signal_number, self.help = signal_number, help


def fail(slug: str, message: str, help: str, *, span: Span | None = None, path: str | None = None) -> SegError:
    """Return an error with a single diagnostic, to be raised: ``raise fail("data-root-missing", …)``."""
    return SegError([Diagnostic(slug, message, help, span=span, path=path)])


MAX_ERRORS = 100
"""Errors after which a check ends: nobody reads more, and each is compared with all names that are known."""


@dataclass(slots=True)
class Sink:
    """Collects diagnostics, so that all independent errors are reported together."""

    items: list[Diagnostic] = field(default_factory=list)
    sources: dict[str, str] = field(default_factory=dict)
    _seen: set[Any] = field(init=False)
    _error_count: int = field(init=False)

    def __post_init__(self) -> None:
        self._seen = set(map(_identify, self.items))
        self._error_count = len(self.errors)

    def add(self, diagnostic: Diagnostic) -> None:
        """Add ``diagnostic`` unless the same one (slug, place and message) is there already.

        Raises :class:`SegError` with all of them once there are too many errors.
        """
        if _identify(diagnostic) in self._seen:
            return
        self._seen.add(_identify(diagnostic))
        self.items.append(diagnostic)
        self._error_count += diagnostic.severity == "error"
        if self._error_count >= MAX_ERRORS:
            help = "correct these first; there may be more"
            end = Diagnostic("too-many-errors", f"the check ended after {MAX_ERRORS} errors", help)
            raise SegError([*self.items, end], self.sources)

    @property
    def errors(self) -> list[Diagnostic]:
        return [d for d in self.items if d.severity == "error"]

    @property
    def warnings(self) -> list[Diagnostic]:
        return [d for d in self.items if d.severity == "warning"]

    def raise_if_errors(self) -> None:
        """Raise :class:`SegError` with all diagnostics if there is an error among them."""
        if self.errors:
            raise SegError(self.items, self.sources)


def _identify(diagnostic: Diagnostic) -> Any:
    return diagnostic.slug, diagnostic.span, diagnostic.path, diagnostic.message


def match_name(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that equals ``name`` apart from case and `_`, or that it is an alias of, or None."""
    candidates = list(known)
    folded = {c.lower().replace("_", ""): c for c in candidates}

    # Imported late: the table of aliases is needed only once something is misspelled.
    from segdsl.diagnostics.aliases import resolve_alias

    return folded.get(name.lower().replace("_", "")) or resolve_alias(name, candidates)


def find_closest_name(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that a misspelled or foreign ``name`` most likely means, or None."""
    candidates = list(known)
    found = match_name(name, candidates)
    if found:
        return found
    prefix, colon, rest = name.partition(":")
    alike = {c.removeprefix(f"{prefix}:"): c for c in candidates if colon and c.startswith(f"{prefix}:")}
    if alike:
        # Only the rest is compared: by letters alone, any two names are alike that begin with `datumaro:`.
        return alike.get(find_closest_name(rest, alike) or "")

    import difflib

    from segdsl.diagnostics.aliases import is_foreign_name

    if is_foreign_name(name):
        # A correctly spelled foreign name with no equivalent here: `fliplr` is not a misspelled `clip`.
        candidates = [c for c in candidates if c.startswith(name) or name.startswith(c)]
    close = difflib.get_close_matches(name, candidates, n=1, cutoff=0.6)
    return close[0] if close else None


def find_safe_replacement(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that can replace ``name`` with nothing else changed, or None.

    A foreign name whose arguments or values mean something different here has no safe replacement.
    """
    from segdsl.diagnostics.aliases import describe_difference

    return None if describe_difference(name) else find_closest_name(name, known)


def suggest_name(name: str, known: Iterable[str], plural: str) -> str:
    """Return the help for an unknown ``name``: the closest known name, or a list of the known ones.

    ``plural`` names the kind of thing, for example "keys".
    """
    candidates = sorted(known)
    near = find_closest_name(name, candidates)
    if near:
        from segdsl.diagnostics.aliases import describe_difference

        return " ".join(filter(None, (f"did you mean `{near}`?", describe_difference(name))))
    if not candidates:
        return f"remove it; there are no {plural} here"
    return f"known {plural}: {quote_names(candidates, 12)}"
