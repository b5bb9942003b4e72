"""A choice made for a generated program, and the formatting of numbers and names in its reason."""

from __future__ import annotations

from typing import NamedTuple

from segdsl.recipe.machine import GIB


class Choice(NamedTuple):
    """The ``value`` written into the program, and the ``reason`` for it with the measured numbers."""

    value: str
    reason: str


def format_percent(share: float) -> str:
    """Format a share as a percentage with two or three significant digits: `97.7 %`, `0.29 %`."""
    value = 100 * share
    digits = 1 if value >= 10 or not value else 2
    return f"{value:.{digits}f} %" if value >= 0.005 or not value else "less than 0.01 %"


def format_gib(size: float) -> str:
    """Format a number of bytes in GiB."""
    return f"{size / GIB:.1f} GiB"


def quote_name(name: str) -> str:
    """Quote a class name for a comment in the program; characters that could end the line are replaced."""
    return "`" + "".join(c if c.isprintable() else "?" for c in " ".join(name.split())) + "`"


def format_duration(seconds: float) -> str:
    """Format a duration, rounded to a unit that suits its length."""
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h" if seconds < 36_000 else f"{round(seconds / 3600)} h"
