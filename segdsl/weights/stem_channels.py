"""Adapting the filters that read the image to another number of channels."""

from __future__ import annotations

import torch
from torch import Tensor

from segdsl.ir.graph import Graph
from segdsl.ops.conv import Conv


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
