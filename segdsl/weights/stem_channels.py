"""Filters that look at an image of other channels than the one they were trained on."""

from __future__ import annotations

import torch
from torch import Tensor

from segdsl.ir.graph import Graph
from segdsl.ops.conv import Conv


def stems(graph: Graph) -> tuple[str, ...]:
    """The keys of the filters that look at the image itself, through whatever leaves its channels as they are."""
    seen, found = set(graph.inputs), []
    for node in graph.nodes:
        if not node.operands or node.operands[0] not in seen:
            continue
        if isinstance(node.op, Conv) and node.op.groups == 1 and node.module is not None:
            found.append(f"{node.module}.weight" if node.module else "weight")
        elif node.module is None and node.shape[1:2] == next(iter(graph.inputs.values()))[1:2]:
            seen.add(node.path)
    return tuple(dict.fromkeys(found))


def adapted(weight: Tensor, channels: int) -> Tensor:
    """Filters (out, c, kh, kw) for images of ``channels`` channels; on an image whose channels are all equal they
    answer as before.

    New channel i looks through the filter of channel i mod c, divided evenly among those that share it; for fewer
    channels than c, filter i is added to that of channel i mod ``channels``.
    """
    old = weight.shape[1]
    if channels < old:
        result = weight[:, :channels].clone()
        for channel in range(channels, old):
            result[:, channel % channels] += weight[:, channel]
        return result
    shares = [len(range(channel % old, channels, old)) for channel in range(channels)]
    return torch.stack([weight[:, channel % old] / shares[channel] for channel in range(channels)], dim=1)
