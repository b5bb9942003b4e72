"""Standard output for a run: printing never fails, even if the terminal was closed or the disk is full."""

from __future__ import annotations

import contextlib
import io
import sys
from typing import TextIO, cast


def open_lasting_stdout() -> TextIO:
    """Return a stream to the current standard output that drops what cannot be written."""
    return cast("TextIO", _LastingStdout())


class _LastingStdout(io.TextIOBase):
    # Errors are ignored on purpose: training goes on without a reader, and a run whose terminal was closed still has
    # to save its checkpoints. `sys.stdout` is looked up at each call, since rich and pytest replace it.
    def write(self, text: str, /) -> int:
        with contextlib.suppress(OSError, ValueError):
            _get_stdout().write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            _get_stdout().flush()

    def isatty(self) -> bool:
        try:
            return _get_stdout().isatty()
        except ValueError:
            return False

    def fileno(self) -> int:
        return _get_stdout().fileno()

    @property
    def encoding(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return getattr(_get_stdout(), "encoding", None) or "utf-8"


def _get_stdout() -> TextIO:
    # While rich shows a live line, `sys.stdout` is rich's own proxy, which would write to this stream again.
    return getattr(sys.stdout, "rich_proxied_file", sys.stdout)
