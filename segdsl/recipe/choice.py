"""A choice, and how numbers are spelt in the reason for it."""

from __future__ import annotations

from typing import NamedTuple

from segdsl.recipe.machine import GIB


class Choice(NamedTuple):
    """What is written into a program as ``value``, and why, with the numbers that were measured."""

    value: str
    reason: str


def percent(share: float) -> str:
    """A share in percent, with three digits that count: `97.7 %`, `0.29 %`."""
    value = 100 * share
    digits = 1 if value >= 10 or not value else 2
    return f"{value:.{digits}f} %" if value >= 0.005 or not value else "less than 0.01 %"


def gibibytes(size: float) -> str:
    """A number of bytes, in GiB."""
    return f"{size / GIB:.1f} GiB"


def counted(number: int, noun: str) -> str:
    """A number with its noun: `1 image`, `1,200 images`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def named(name: str) -> str:
    """The name of a class in a comment, which ends at the end of the line."""
    return "`" + "".join(c if c.isprintable() else "?" for c in " ".join(name.split())) + "`"


def duration(seconds: float) -> str:
    """A time for a person, to the nearest unit that says something."""
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h" if seconds < 36_000 else f"{round(seconds / 3600)} h"
