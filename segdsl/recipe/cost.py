"""Estimates of the memory and time that training a model takes, from its graph.

Both are calibrated on measured training steps: Lite-HRNet-s, -18, -x and SegNeXt-T, -S at 256x256 and 352x480, with 2
to 150 classes, in float32, on one core.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from segdsl.ir.graph import Graph
from segdsl.ir.shape import evaluate_shape
from segdsl.ir.values import Size
from segdsl.recipe.machine import GIB

FLOAT_BYTES = 4
ACTIVATION_FACTOR = 1.3
"""Bytes that training takes per byte of the graph's node outputs; 0.6 to 1.3 were measured."""
LOGIT_FACTOR = 3
"""Additional bytes that the loss takes per byte of the logits; 2.1 were measured."""
BYTES_PER_PARAMETER = 16
"""Bytes per parameter: its value, its gradient, and the two running means of Adam."""
PROCESS_BYTES = 0.7 * GIB
"""Memory of the process before the first step, mostly PyTorch itself."""
ACTIVATION_GIB_SECONDS, GFLOP_SECONDS, LOGIT_GIB_SECONDS = 0.45, 0.02, 5.0
"""Seconds of one core per training step: for each GiB of node outputs, for each GFLOP (forward and backward), and for
each GiB of logits."""
KERNEL_SECONDS = 7e-5
"""Seconds per training step for each node, regardless of its size.

Small inputs take hardly less time than larger ones. For Lite-HRNet-s and -18 and SegNeXt-T, estimates from 64x64 to
256x256 are within 25 % of the measured times.
"""
LOADING_SECONDS = 5e-3
"""Seconds of one core to read and augment an image; 3.5 to 4.4 ms were measured on three datasets."""
EXTRA_CORE_GAIN = 0.8
"""Speedup from each additional core, as a share of one core."""


class Cost(NamedTuple):
    """The cost of one image: bytes of all node outputs, bytes of the logits and multiply-accumulates; also the number
    of parameters and of nodes."""

    activation_bytes: float
    logit_bytes: float
    macs: float
    parameters: int
    node_count: int = 0

    def scale_pixels(self, factor: float) -> Cost:
        """Return the cost at ``factor`` times the pixels; in these networks, costs are proportional to the number of
        pixels."""
        return Cost(
            self.activation_bytes * factor,
            self.logit_bytes * factor,
            self.macs * factor,
            self.parameters,
            self.node_count,
        )

    def estimate_memory(self, batch: int) -> float:
        """Return the peak memory of a training step, in bytes."""
        return (
            PROCESS_BYTES
            + BYTES_PER_PARAMETER * self.parameters
            + batch * (ACTIVATION_FACTOR * self.activation_bytes + LOGIT_FACTOR * self.logit_bytes)
        )

    def estimate_seconds(self, batch: int, cores: int) -> float:
        """Return the seconds of a training step on the CPU, including reading and augmenting its images on the same
        cores."""
        work = ACTIVATION_GIB_SECONDS * self.activation_bytes / GIB + LOGIT_GIB_SECONDS * self.logit_bytes / GIB
        # A multiply-accumulate is 2 operations; the backward pass takes about twice as many as the forward pass.
        work += GFLOP_SECONDS * 3 * 2 * self.macs / 1e9 + LOADING_SECONDS
        return (batch * work + KERNEL_SECONDS * self.node_count) / (1 + EXTRA_CORE_GAIN * (cores - 1))


def compute_graph_cost(graph: Graph) -> Cost:
    """Return the cost of a graph at its input size."""
    sizes = {node.path: math.prod(evaluate_shape(node.shape, graph.env)) for node in graph.nodes}
    logits = sum(sizes.get(path, 0) for path in graph.outputs.values())
    return Cost(
        FLOAT_BYTES * sum(sizes.values()),
        FLOAT_BYTES * logits,
        graph.count_macs(),
        graph.count_parameters(),
        len(graph.nodes),
    )


def compute_model_cost(library: str, model: str, classes: int, size: tuple[int, int]) -> Cost:
    """Return the cost of a model of the library `std/NAME.seg` at an input size of (height, width)."""
    from segdsl.lang.program import load_text

    text = f'seg 1\nimport "std/{library}.seg"\nmodel = {model}(classes = {classes})\n'
    return compute_graph_cost(load_text(text, "model.seg", [("data.input_size", Size(*size))], classes).graph)
