"""Standard streams: color, terminal width, encodings, a stdout reserved for JSON, and printed diagnostics."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TextIO

from segdsl.diagnostics import Diagnostic
from segdsl.text.columns import sanitize_text

SELF_EXPLANATORY = {"internal-error", "interrupted"}
"""Slugs whose message says all there is: no hint at `segdsl explain` follows them."""


def prepare_streams(debug: bool) -> None:
    """Replace characters that a terminal cannot print, and silence warnings of libraries unless debugging."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        # Python sets a stream to None if the parent process closed it (`segdsl … >&-`).
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - lives until the end
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    if not debug:
        import warnings

        warnings.simplefilter("ignore")


@contextmanager
def reserve_stdout(reserve: bool) -> Iterator[TextIO]:
    """Yield the stream for the result. With ``reserve``, all other output to stdout, even from C, goes to stderr."""
    if not reserve:
        yield sys.stdout
        return
    visible, sys.stdout = sys.stdout, sys.stderr
    try:
        descriptor = visible.fileno()
    except (OSError, ValueError):
        # A stream without a file descriptor, as pytest installs.
        descriptor = -1
    if descriptor != 1:
        try:
            yield visible
        finally:
            sys.stdout = visible
        return
    # C libraries write to descriptor 1 directly, so it is pointed at stderr and the result goes to a duplicate.
    duplicate = os.dup(1)
    os.dup2(2, 1)
    try:
        with open(duplicate, "w", encoding=visible.encoding, errors="replace", closefd=False) as stream:
            yield stream
    finally:
        os.dup2(duplicate, 1)
        os.close(duplicate)
        sys.stdout = visible


def abandon_stdout() -> None:
    """Redirect stdout to the null device, so that the flush at exit does not fail on a closed pipe."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - lives until the end


def flush_streams() -> bool:
    """Flush stdout and stderr; return whether that succeeded."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        return False
    return True


def set_stdout_utf8() -> None:
    """Switch stdout to UTF-8 with Unix line ends, for text that replaces a source file."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", newline="\n")


def wants_color(stream: TextIO) -> bool:
    """Return whether to color ``stream``: NO_COLOR, then FORCE_COLOR, then whether it is a capable terminal."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and os.environ.get("TERM", "") not in ("", "dumb")


def format_source(text: str) -> str:
    """Return a program as standard output shows it: in color and without control characters on a terminal, else as it
    is."""
    if not sys.stdout.isatty() and not wants_color(sys.stdout):
        return text
    shown = sanitize_text(text, "\n\t")
    if not wants_color(sys.stdout):
        return shown
    from segdsl.editor.ansi import highlight_source

    return highlight_source(shown)


def can_print(text: str, stream: TextIO) -> bool:
    """Return whether the encoding of ``stream`` has all characters of a text."""
    try:
        text.encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def detect_width(stream: TextIO) -> int:
    """Return the width of the terminal behind ``stream`` in columns, or 120 if it is not a terminal."""
    if not stream.isatty():
        return 120
    import shutil

    # Some pseudo-terminals report a width of 0.
    columns = shutil.get_terminal_size((100, 24)).columns
    return columns if columns > 0 else 100


def print_findings(diagnostics: Sequence[Diagnostic], sources: Mapping[str, str]) -> None:
    """Print diagnostics to stderr, followed by a line with their count."""
    if not diagnostics:
        return
    from segdsl.diagnostics.render import Renderer, format_counts

    renderer = Renderer(sources, wants_color(sys.stderr), detect_width(sys.stderr))
    errors = sum(d.severity == "error" for d in diagnostics)
    warnings = sum(d.severity == "warning" for d in diagnostics)
    text = renderer.render_all(diagnostics)
    slugs = {d.slug for d in diagnostics} - SELF_EXPLANATORY
    if slugs:
        slug = slugs.pop() if len(slugs) == 1 else "SLUG"
        text += f"\n{format_counts(errors, warnings)} (run `segdsl explain {slug}` for details)\n"
    print(text, end="", file=sys.stderr, flush=True)


def print_note(text: str) -> None:
    """Print a progress note to stderr."""
    print(f"{text} …" if can_print("…", sys.stderr) else f"{text} ...", file=sys.stderr, flush=True)


def write_bug_report(args: Sequence[str], traceback: str) -> str | None:
    """Write the details for a bug report to a temporary file and return its name, or None if that fails."""
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
