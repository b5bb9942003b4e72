"""Markdown: escaped text and tables."""

from __future__ import annotations

import re


def escape_markdown(text: str) -> str:
    """Escape `*` and `<`, which Markdown would read as markup."""
    # Within backticks, Markdown takes every character as it is.
    return re.sub(r"`[^`]*`|[*<]", lambda m: m[0] if len(m[0]) > 1 else f"\\{m[0]}", text)


def render_table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Render a table from its head and its rows."""
    cells = [
        [" ".join(cell.split()).replace("|", "\\|") for cell in row] for row in (head, ("---",) * len(head), *rows)
    ]
    return "\n".join("| " + " | ".join(row) + " |" for row in cells) + "\n"
