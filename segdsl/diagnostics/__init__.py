"""What segdsl says to its users: spans, diagnostics, and the error that carries them.

Every layer reports through this module, so it imports nothing of segdsl and nothing heavy. The long text behind each
slug lives in ``segdsl/explain/*.md``; a test holds that every slug used in the
code is explained there, and the reverse.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Severity = Literal["error", "warning", "note"]


class Span(NamedTuple):
    """A stretch of a source text: ``file`` names a key of the sources, ``start:end`` are offsets in code points."""

    file: str
    start: int
    end: int

    def to(self, other: Span) -> Span:
        """The stretch from the start of this span to the end of ``other``."""
        return Span(self.file, self.start, max(self.end, other.end))


class Position(NamedTuple):
    """One-based line and column."""

    line: int
    column: int


def position(text: str, offset: int) -> Position:
    """Line and column (both from 1) of ``offset`` in ``text``."""
    offset = min(offset, len(text))
    return Position(text.count("\n", 0, offset) + 1, offset - (text.rfind("\n", 0, offset) + 1) + 1)


class Label(NamedTuple):
    """A second place that matters, with the words that stand under it."""

    span: Span
    text: str


class Fix(NamedTuple):
    """A replacement that a machine may make without asking: ``span`` becomes ``text``."""

    span: Span
    text: str


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One finding. ``slug`` names the pattern, ``message`` says got and expected, ``help`` what to do.

    ``span`` points into a program; ``path`` names a file that is no program (an image, a checkpoint).
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


class SegError(Exception):
    """The input is at fault. ``diagnostics`` says how; ``sources`` holds the texts that the spans point into."""

    def __init__(self, diagnostics: Iterable[Diagnostic], sources: Mapping[str, str] | None = None) -> None:
        self.diagnostics = tuple(diagnostics)
        self.sources = dict(sources or {})
        super().__init__("; ".join(f"{d.slug}: {d.message}" for d in self.diagnostics))


class Interrupted(KeyboardInterrupt):
    """A run was ended by a signal, with all saved. ``number`` is the signal's, ``help`` says how to go on."""

    def __init__(self, number: int, help: str = "start it again") -> None:
        super().__init__(number)
        self.number, self.help = number, help


def fail(slug: str, message: str, help: str, *, span: Span | None = None, path: str | None = None) -> SegError:
    """The error of a single finding, to be raised: ``raise fail("data-root-missing", …)``."""
    return SegError([Diagnostic(slug, message, help, span=span, path=path)])


@dataclass(slots=True)
class Sink:
    """Collects diagnostics, so that all independent errors of a file are reported at once."""

    items: list[Diagnostic] = field(default_factory=list)
    sources: dict[str, str] = field(default_factory=dict)

    def add(self, diagnostic: Diagnostic) -> None:
        """Keeps ``diagnostic`` unless the same one (slug and place) is known already."""
        same = (diagnostic.slug, diagnostic.span, diagnostic.path, diagnostic.message)
        if all((d.slug, d.span, d.path, d.message) != same for d in self.items):
            self.items.append(diagnostic)

    @property
    def errors(self) -> list[Diagnostic]:
        return [d for d in self.items if d.severity == "error"]

    @property
    def warnings(self) -> list[Diagnostic]:
        return [d for d in self.items if d.severity == "warning"]

    def check(self) -> None:
        """Raises :class:`SegError` with everything collected if there is an error among it."""
        if self.errors:
            raise SegError(self.items, self.sources)


def called(name: str, known: Iterable[str]) -> str | None:
    """The known word that a ``name`` is but for case and `_`, or that other frameworks call so; or None."""
    candidates = list(known)
    folded = {c.lower().replace("_", ""): c for c in candidates}

    from segdsl.diagnostics.foreign import meant

    return folded.get(name.lower().replace("_", "")) or meant(name, candidates)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known word that a ``name`` most likely means which is misspelt, or that others call so; or None."""
    candidates = list(known)
    found = called(name, candidates)
    if found:
        return found

    import difflib

    from segdsl.diagnostics.foreign import is_foreign

    if is_foreign(name):
        # It is spelt right, and means something that is not here: `fliplr` is no misspelt `clip`.
        candidates = [c for c in candidates if c.startswith(name) or name.startswith(c)]
    close = difflib.get_close_matches(name, candidates, n=1, cutoff=0.6)
    return close[0] if close else None


def replacing(name: str, known: Iterable[str]) -> str | None:
    """The known word that may stand in place of a ``name`` with nothing else changed; None also where what stands
    beside the name would then mean something else."""
    from segdsl.diagnostics.foreign import difference

    return None if difference(name) else nearest(name, known)


def suggest(name: str, known: Iterable[str], what: str) -> str:
    """One line of help for an unknown ``name``: the nearest known word, or all of them when they are few."""
    candidates = sorted(known)
    near = nearest(name, candidates)
    if near:
        from segdsl.diagnostics.foreign import difference

        return " ".join(filter(None, (f"did you mean `{near}`?", difference(name))))
    if not candidates:
        return f"there are no {what} here; remove it"
    shown = ", ".join(f"`{c}`" for c in candidates[:12]) + (", …" if len(candidates) > 12 else "")
    return f"known {what}: {shown}"
