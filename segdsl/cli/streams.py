"""Standard streams: colour, odd terminals, keeping stdout clean for JSON, and printing diagnostics."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TextIO

from segdsl.diagnostics import Diagnostic

EXPLAINED_BY_ITSELF = {"internal-error", "interrupted"}


def prepare(debug: bool) -> None:
    """Makes printing never fail on a terminal that lacks characters, and keeps what libraries warn of to themselves."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever started us
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - lives until the end
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    if not debug:
        import warnings

        warnings.simplefilter("ignore")


@contextmanager
def reserved_stdout(reserve: bool) -> Iterator[TextIO]:
    """The stream for the answer. With ``reserve``, all else that goes to stdout, also from C, lands on stderr."""
    if not reserve:
        yield sys.stdout
        return
    visible, sys.stdout = sys.stdout, sys.stderr
    try:
        descriptor = visible.fileno()
    except (OSError, ValueError):  # no real stream, as in tests
        descriptor = -1
    if descriptor != 1:
        try:
            yield visible
        finally:
            sys.stdout = visible
        return
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with open(kept, "w", encoding=visible.encoding, errors="replace", closefd=False) as stream:
            yield stream
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        sys.stdout = visible


def abandon_stdout() -> None:
    """Stops the interpreter from complaining at exit that nobody reads stdout any more."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - lives until the end


def flushed() -> bool:
    """Whether all that was printed is out."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        return False
    return True


def write_utf8() -> None:
    """Makes stdout give UTF-8 and plain line ends wherever it runs: for a text that replaces the one that was read."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", newline="\n")


def wants_color(stream: TextIO) -> bool:
    """Whether to colour ``stream``: NO_COLOR and FORCE_COLOR decide, else whether it is a terminal with colours."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and os.environ.get("TERM", "") not in ("", "dumb")


def can_print(text: str, stream: TextIO) -> bool:
    """Whether the encoding of ``stream`` has all characters of a text."""
    try:
        text.encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def width(stream: TextIO) -> int:
    """Columns for ``stream``: the terminal's, or 120 where it is none."""
    if not stream.isatty():
        return 120
    import shutil

    columns = shutil.get_terminal_size((100, 24)).columns
    return columns if columns > 0 else 100


def print_findings(diagnostics: Sequence[Diagnostic], sources: Mapping[str, str]) -> None:
    """Prints diagnostics on stderr, with a line at the end that counts them."""
    if not diagnostics:
        return
    from segdsl.diagnostics.render import Renderer, summary

    renderer = Renderer(sources, wants_color(sys.stderr), width(sys.stderr))
    errors = sum(d.severity == "error" for d in diagnostics)
    warnings = sum(d.severity == "warning" for d in diagnostics)
    text = renderer.render_all(diagnostics)
    slugs = {d.slug for d in diagnostics} - EXPLAINED_BY_ITSELF
    if slugs:
        some = diagnostics[0].slug if len(slugs) == 1 else "SLUG"
        text += f"\n{summary(errors, warnings)} (`segdsl explain {some}` says more)\n"
    print(text, end="", file=sys.stderr, flush=True)


def note(text: str) -> None:
    """Says on stderr what is being done, while it is."""
    print(f"{text} …" if can_print("…", sys.stderr) else f"{text} ...", file=sys.stderr, flush=True)


def write_report(args: Sequence[str], traceback: str) -> str | None:
    """Writes what a report of a bug needs into a temporary file and gives its name; None where that fails."""
    import platform
    import tempfile

    from segdsl.version import __version__

    facts = (
        f"segdsl {__version__}, Python {platform.python_version()}, {platform.platform()}\nsegdsl {' '.join(args)}\n"
    )
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="segdsl-bug-", suffix=".txt", delete=False, encoding="utf-8", errors="replace"
        ) as file:
            file.write(f"{facts}\n{traceback}")
        return file.name
    except OSError:
        return None
