"""Where a run prints: standard output, also after the terminal was closed or the disk behind it is full."""

from __future__ import annotations

import contextlib
import io
import sys
from typing import TextIO, cast


def lasting_stdout() -> TextIO:
    """Standard output as it is at each moment. What cannot be written is lost, and no fault: training goes on without a
    reader, and a run whose terminal was closed still has to save what it knows."""
    return cast("TextIO", _Lasting())


class _Lasting(io.TextIOBase):
    def write(self, text: str, /) -> int:
        with contextlib.suppress(OSError, ValueError):
            _stdout().write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            _stdout().flush()

    def isatty(self) -> bool:
        try:
            return _stdout().isatty()
        except ValueError:
            return False

    def fileno(self) -> int:
        return _stdout().fileno()

    @property
    def encoding(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return getattr(_stdout(), "encoding", None) or "utf-8"


def _stdout() -> TextIO:
    # While rich shows a live line, it stands there itself and would write here again.
    return getattr(sys.stdout, "rich_proxied_file", sys.stdout)
