"""Adapting tensors to the program: filters to other channels, position embeddings to another grid."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from segdsl.ir.graph import Graph, Table
from segdsl.ops.conv import Conv

Grid = tuple[int, int]


def find_stem_keys(graph: Graph) -> tuple[str, ...]:
    """Return the keys of the convolution weights that are applied to the image itself.

    Operations without weights that keep the number of channels, such as a resize, may come in between.
    """
    seen, found = set(graph.inputs), []
    for node in graph.nodes:
        if not node.operands or node.operands[0] not in seen:
            continue
        # In a grouped convolution every filter sees only some of the channels: there is no rule for dividing it.
        if isinstance(node.op, Conv) and node.op.groups == 1 and node.module is not None:
            found.append(f"{node.module}.weight" if node.module else "weight")
        elif node.module is None and node.shape[1:2] == next(iter(graph.inputs.values()))[1:2]:
            seen.add(node.path)
    return tuple(dict.fromkeys(found))


def adapt_channels(weight: Tensor, channels: int) -> Tensor:
    """Return filters (out, ``channels``, kh, kw) made from filters (out, c, kh, kw).

    The new filters give the same output on an image whose channels are all equal. New channel i uses the filter of
    channel i mod c, divided evenly among the channels that share it. For fewer channels than c, filter i is added to
    the filter of channel i mod ``channels``.
    """
    old = weight.shape[1]
    if channels < old:
        result = weight[:, :channels].clone()
        for channel in range(channels, old):
            result[:, channel % channels] += weight[:, channel]
        return result
    shares = [len(range(channel % old, channels, old)) for channel in range(channels)]
    return torch.stack([weight[:, channel % old] / shares[channel] for channel in range(channels)], dim=1)


INPUT_SIZE_KEY = "input_size"


def infer_grid(table: Table, row_count: int, metadata: Mapping[str, str]) -> Grid | None:
    """Return the (height, width) of the grid of a table with ``row_count`` rows in a file.

    It follows from the input size that the file states, or is assumed to be square. Returns None if neither fits.
    """
    cells = row_count - table.first
    if INPUT_SIZE_KEY in metadata:
        size = re.fullmatch(r"([1-9][0-9]{0,5})x([1-9][0-9]{0,5})", metadata[INPUT_SIZE_KEY])
        grid = table.evaluate_grid((int(size[1]), int(size[2]))) if size else (0, 0)
        return grid if grid[0] * grid[1] == cells > 0 else None
    # Published vision transformers are trained on square images.
    side = math.isqrt(max(cells, 0))
    return (side, side) if side and side * side == cells else None


def resize_table(values: Tensor, table: Table, old_grid: Grid, new_grid: Grid) -> Tensor:
    """Return ``values`` resized to one row per cell of ``new_grid``; the rows before the grid are unchanged.

    Equal grids keep their exact values.
    """
    if old_grid == new_grid:
        return values
    head, cells = values.split([table.first, old_grid[0] * old_grid[1]], dim=table.axis)
    image = cells.movedim(table.axis, -1)
    others = image.shape[:-1]
    # As in the code of DINOv2: bicubic, without antialiasing, scaled by (n + 0.1) / m for a side of m that becomes n.
    # The sample positions follow this factor and not the ratio of the sizes, so that the 0.1 is part of the result.
    scale = [(n + 0.1) / m for n, m in zip(new_grid, old_grid, strict=True)]
    image = F.interpolate(image.reshape(1, -1, *old_grid).float(), scale_factor=scale, mode="bicubic")
    cells = image.reshape(*others, new_grid[0] * new_grid[1]).movedim(-1, table.axis).to(values.dtype)
    return torch.cat([head, cells], dim=table.axis)
