"""The deployable model: a trained model in the form that runtimes execute best."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from segdsl.data.decode.images import get_normalization
from segdsl.export.certify.divergence import TapInterpreter
from segdsl.export.convert.rewrites import EXPORT_REWRITES, split_group_norms
from segdsl.inference.models.model_info import needs_empty_channel
from segdsl.ir.program import Exporter, Program
from segdsl.lower.inference_rewrites import optimize_for_inference
from segdsl.lower.rewriting import apply_rewrites, forget_shapes

EMPTY_LOGIT = -1e4
"""Logit of a channel that never wins; it gives probability 0, also in half precision."""


class DeployableModel(nn.Module):
    """A trained model with the input and output that ``exporter`` sets; on the CPU, in evaluation mode.

    ``model`` maps normalized images to logits. Without ``optimize``, the graph stays as it was trained, which
    benchmarks use as a baseline.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        model: fx.GraphModule,
        program: Program,
        exporter: Exporter,
        optimize: bool = True,
    ) -> None:
        super().__init__()
        # A copy, so that the caller's model keeps its device, memory format and mode.
        self.model: Any = optimize_for_export(model, exporter) if optimize else prepare_baseline(model, exporter)
        self.exporter, self.has_empty_channel = exporter, needs_empty_channel(program, exporter)
        for name, values in zip(
            ("mean", "deviation"), get_normalization(program.data.normalize, program.channels), strict=True
        ):
            self.register_buffer(name, torch.tensor(values).view(1, -1, 1, 1))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return the output of the exported model, then the logits."""
        if self.exporter.normalize:
            image = (image - self.mean) / self.deviation
        logits = self.model(image)
        return self.make_output(logits), logits

    def make_output(self, logits: Tensor) -> Tensor:
        """Turn logits into the output of the model: probabilities or class ids."""
        if self.exporter.prediction == "hard":
            return logits.argmax(1).to(torch.int32)
        if self.has_empty_channel:
            logits = F.pad(logits, (0, 0, 0, 0, 1, 0), value=EMPTY_LOGIT)
        return logits.softmax(1)


def optimize_for_export(model: fx.GraphModule, exporter: Exporter, until: str | None = None) -> fx.GraphModule:
    """Return a copy of ``model`` with the rewrites for inference and for every format, or those up to ``until``."""
    optimized = optimize_for_inference(model)
    if exporter.size == "dynamic":
        forget_shapes(optimized)
    apply_rewrites(optimized, EXPORT_REWRITES, until)
    return optimized


def prepare_baseline(model: fx.GraphModule, exporter: Exporter) -> fx.GraphModule:
    """Return a copy of ``model`` as it was trained, but for group norms, on which OpenVINO crashes."""
    prepared = optimize_for_inference(model, {})
    if exporter.size == "dynamic":
        forget_shapes(prepared)
    split_group_norms(prepared)
    return prepared


class TapModel(nn.Module):
    """A deployable model that also returns the tensor of every node; ``paths`` are their paths, in the same order."""

    def __init__(self, deployable: DeployableModel) -> None:
        super().__init__()
        self.deployable, self.paths = deployable, list[str]()

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        taps = TapInterpreter(self.deployable.model, None)
        if self.deployable.exporter.normalize:
            image = (image - self.deployable.mean) / self.deployable.deviation
        logits = taps.run(image)
        self.paths = list(taps.activations)
        return self.deployable.make_output(logits), logits, *taps.activations.values()
