"""Tables of plain text for the terminal, laid out by rich."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from io import StringIO
from typing import Literal

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

TERMINAL_WIDTH = 80


def render_table(
    headings: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    shrink: int = 0,
    overflow: Literal["ellipsis", "fold"] = "ellipsis",
    width: int = TERMINAL_WIDTH,
) -> list[str]:
    """Return the lines of a table: the first column aligned to the left, the others to the right.

    Where a line would exceed ``width`` terminal columns, the column ``shrink`` is cut or folded onto several lines.
    """
    columns = [
        Column(Text(heading), justify="right" if k else "left", no_wrap=k != shrink)
        for k, heading in enumerate(headings)
    ]
    table = Table(*columns, box=None, pad_edge=False, padding=(0, 2, 0, 0), collapse_padding=True)
    for row in rows:
        table.add_row(*(Text(cell, overflow=overflow, no_wrap=overflow == "ellipsis") for cell in row))
    console = Console(file=StringIO(), width=width, color_system=None, legacy_windows=False)
    with console.capture() as capture:
        console.print(table)
    return [line.rstrip() for line in capture.get().splitlines()]
