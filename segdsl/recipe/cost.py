"""What training a model costs, from its graph: memory and time.

Both are estimates, calibrated on training steps that were measured: Lite-HRNet-s, -18, -x and SegNeXt-T, -S at 256x256
and 352x480, with 2 to 150 classes, in float32, on one core.
"""

from __future__ import annotations

import math
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from segdsl.ir.graph import Graph
from segdsl.ir.shape import shape_at
from segdsl.recipe.machine import GIB

BYTES = 4
KEPT = 1.3
"""Bytes that training takes for each byte that the nodes of the graph give: 0.6 to 1.3 were measured."""
LOGITS = 3
"""Bytes for each byte of the logits that the loss takes beside; 2.1 were measured."""
STATE = 16
"""Bytes for each parameter: its value, its gradient, and the two means of Adam."""
PROCESS = 0.7 * GIB
"""What the process takes before the first step, most of it PyTorch."""
NODE_SECONDS, GFLOP_SECONDS, LOGIT_SECONDS = 0.45, 0.02, 5.0
"""Seconds of one core for a training step: for each GiB that the nodes give, each GFLOP of three passes, each GiB of
logits."""
CALL_SECONDS = 7e-5
"""Seconds of a training step for each node, whatever its size: a small input takes hardly less time than a larger one.
Steps of Lite-HRNet-s and -18 and SegNeXt-T from 64x64 to 256x256 come within a quarter of what was measured."""
LOADING_SECONDS = 5e-3
"""Seconds of one core to read an image and augment it; 3.5 to 4.4 ms were measured on three data sets."""
NEXT_CORE = 0.8
"""What a further core adds."""


class Cost(NamedTuple):
    """Of one image: bytes that all nodes give, bytes of the logits, multiply-accumulates; and the parameters, and the
    number of the nodes (``calls``)."""

    nodes: float
    logits: float
    macs: float
    parameters: int
    calls: int = 0

    def at(self, factor: float) -> Cost:
        """At ``factor`` times the pixels: these networks cost the same for each."""
        return Cost(self.nodes * factor, self.logits * factor, self.macs * factor, self.parameters, self.calls)

    def memory(self, batch: int) -> float:
        """Bytes at the peak of a training step."""
        return PROCESS + STATE * self.parameters + batch * (KEPT * self.nodes + LOGITS * self.logits)

    def seconds(self, batch: int, cores: int) -> float:
        """Seconds of a training step on the CPU, its images being read and augmented on the same cores."""
        work = NODE_SECONDS * self.nodes / GIB + LOGIT_SECONDS * self.logits / GIB
        work += GFLOP_SECONDS * 3 * 2 * self.macs / 1e9 + LOADING_SECONDS
        return (batch * work + CALL_SECONDS * self.calls) / (1 + NEXT_CORE * (cores - 1))


def cost_of(graph: Graph) -> Cost:
    """The cost of a graph at its size."""
    sizes = {node.path: math.prod(shape_at(node.shape, graph.env)) for node in graph.nodes}
    logits = sum(sizes.get(path, 0) for path in graph.outputs.values())
    return Cost(BYTES * sum(sizes.values()), BYTES * logits, graph.macs(), graph.parameters(), len(graph.nodes))


def model_cost(library: str, model: str, classes: int, size: tuple[int, int]) -> Cost:
    """The cost of a model of the library `std/NAME.seg` at (height, width)."""
    from segdsl.lang.program import load

    text = f'seg 1\nimport "std/{library}.seg"\nmodel = {model}(classes = {classes})\n'
    with TemporaryDirectory() as folder:
        file = Path(folder, "model.seg")
        file.write_text(text, encoding="utf-8")
        graph = load(file, [f"data.input_size={size[0]}x{size[1]}"], classes).graph
    return cost_of(graph)
