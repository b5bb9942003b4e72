"""Position tables that were made for another grid: which one that was, and the table for the grid of the program."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from segdsl.ir.graph import Table

Grid = tuple[int, int]
MADE_FOR = "input_size"
"""The metadata of a weight file that says at which height x width its model was built."""


def grid_of(table: Table, rows: int, metadata: Mapping[str, str]) -> Grid | None:
    """The grid of a table of a file that has ``rows`` rows: of the size that the file names, else a square one.

    None where neither fits.
    """
    cells = rows - table.first
    if MADE_FOR in metadata:
        said = re.fullmatch(r"([1-9][0-9]{0,5})x([1-9][0-9]{0,5})", metadata[MADE_FOR])
        grid = table.grid((int(said[1]), int(said[2]))) if said else (0, 0)
        return grid if grid[0] * grid[1] == cells > 0 else None
    side = math.isqrt(max(cells, 0))
    return (side, side) if side and side * side == cells else None


def resized(values: Tensor, table: Table, old: Grid, new: Grid) -> Tensor:
    """``values`` with a row for each cell of ``new`` instead of ``old``; the rows before the grid's stay as they are.

    The rule of DINOv2's authors: bicubic, without antialiasing, scaled by (n + 0.1) / m along a side of m that becomes
    n, which is what the sample positions follow and not the ratio of the sizes. Equal grids keep their values.
    """
    if old == new:
        return values
    head, cells = values.split([table.first, old[0] * old[1]], dim=table.axis)
    image = cells.movedim(table.axis, -1)
    others = image.shape[:-1]
    scale = [(n + 0.1) / m for n, m in zip(new, old, strict=True)]
    image = F.interpolate(image.reshape(1, -1, *old).float(), scale_factor=scale, mode="bicubic")
    cells = image.reshape(*others, new[0] * new[1]).movedim(-1, table.axis).to(values.dtype)
    return torch.cat([head, cells], dim=table.axis)
