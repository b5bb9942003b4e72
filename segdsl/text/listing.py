"""Listings of names in a sentence, cut to a few."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import islice

MAX_LISTED = 6
"""Names that a sentence lists before it abbreviates the others to "and N more"."""


def join_names(names: Sequence[str], limit: int = MAX_LISTED, total: int | None = None, separator: str = ", ") -> str:
    """Join the first names for a sentence: `a, b and 3 more`.

    ``total`` is the number of names if ``names`` are only some of them.
    """
    shown = names[:limit]
    more = (len(names) if total is None else total) - len(shown)
    return separator.join(shown) + (f" and {more:,} more" if more > 0 else "")


def quote_names(names: Sequence[str], limit: int = MAX_LISTED) -> str:
    """Join the first names, each in backticks: `` `a`, `b` and 3 more ``."""
    return join_names([f"`{name}`" for name in islice(names, limit)], limit, len(names))


def format_string(text: str) -> str:
    """Return a string literal of the language."""
    return json.dumps(text, ensure_ascii=False)


def format_string_list(names: Sequence[str]) -> str:
    """Return a list of string literals."""
    return "[" + ", ".join(map(format_string, names)) + "]"
