"""The deployable model: a trained model in the form that runtimes execute best."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from segdsl.data.decode.images import get_normalization
from segdsl.export.certify.divergence import TapInterpreter
from segdsl.export.convert.rewrites import rewrite_even_pools
from segdsl.inference.models.model_info import needs_empty_channel
from segdsl.ir.program import Exporter, Program
from segdsl.lower.inference_rewrites import INFERENCE_REWRITES, optimize_for_inference

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
        self.model: Any = optimize_for_inference(model, INFERENCE_REWRITES if optimize else {})
        if optimize and exporter.size == "static":
            rewrite_even_pools(self.model, program.graph.collect_shapes(), program.graph.env)
        for name, module in list(self.model.named_modules()):
            if isinstance(module, nn.GroupNorm):
                self.model.set_submodule(name, LayerNormGroupNorm(module, exporter.size == "dynamic"))
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


class LayerNormGroupNorm(nn.Module):
    """Group normalization as a layer norm of each group, followed by a scale and an offset for each channel."""

    # OpenVINO 2026.4 crashes in single precision when it compiles a `GroupNormalization` whose result is added to that
    # of another one on small maps, as in SegNeXt's head below 512x512. This form compiles and is as fast.

    def __init__(self, norm: nn.GroupNorm, has_dynamic_size: bool = False) -> None:
        super().__init__()
        self.groups, self.eps, self.has_dynamic_size = norm.num_groups, norm.eps, has_dynamic_size
        self.weight, self.bias = norm.weight, norm.bias

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        groups = x.reshape(batch, self.groups, -1)
        if self.has_dynamic_size:
            # A layer norm would fix the number of values of the traced size in the file.
            centered = groups - groups.mean(-1, keepdim=True)
            normalized = centered / torch.sqrt((centered * centered).mean(-1, keepdim=True) + self.eps)
        else:
            normalized = F.layer_norm(groups, (channels // self.groups * height * width,), eps=self.eps)
        return normalized.view(x.shape) * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)
