"""What is exported: a trained model in the form that runtimes take best."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from segdsl.data.decode.images import statistics
from segdsl.export.certify.divergence import Taps
from segdsl.export.convert.rewrites import pool_windows
from segdsl.ir.program import AnyExporter, Program
from segdsl.lower.inference_rewrites import REWRITES, for_inference

NOTHING = -1e4
"""The logit of a channel that is never the best, and a probability of 0 in half precision too."""


class Shipped(nn.Module):
    """The model between what comes in and what goes out as ``form`` says; on the CPU, in evaluation.

    ``model`` gives logits from normalised images. ``unnamed`` puts an empty channel before the first class (see
    :mod:`segdsl.inference.models.model_info`);
    without ``reduce`` the graph stays as it was trained, to measure what that is worth.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self, model: fx.GraphModule, program: Program, form: AnyExporter, unnamed: bool = False, reduce: bool = True
    ) -> None:
        super().__init__()
        # A copy: the caller's model keeps its device, its memory format and its mode.
        self.model: Any = for_inference(model, REWRITES if reduce else {})
        if reduce and form.size == "static":
            pool_windows(self.model, program.graph.shapes(), program.graph.env)
        for name, module in list(self.model.named_modules()):
            if isinstance(module, nn.GroupNorm):
                self.model.set_submodule(name, GroupNormByLayers(module, form.size == "dynamic"))
        self.form, self.unnamed = form, unnamed
        for name, values in zip(
            ("mean", "deviation"), statistics(program.data.normalize, program.channels), strict=True
        ):
            self.register_buffer(name, torch.tensor(values).view(1, -1, 1, 1))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """What is shipped, then the logits."""
        if self.form.normalize:
            image = (image - self.mean) / self.deviation
        logits = self.model(image)
        return self.said(logits), logits

    def said(self, logits: Tensor) -> Tensor:
        """What the model says: the softmax over the classes, or their ids."""
        if self.form.prediction == "hard":
            return logits.argmax(1).to(torch.int32)
        if self.unnamed:
            logits = F.pad(logits, (0, 0, 0, 0, 1, 0), value=NOTHING)
        return logits.softmax(1)


class Tapped(nn.Module):
    """A shipped model that gives the tensor of every node too: ``paths`` says which they are, the results in order."""

    def __init__(self, shipped: Shipped) -> None:
        super().__init__()
        self.shipped, self.paths = shipped, list[str]()

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        taps = Taps(self.shipped.model, None)
        if self.shipped.form.normalize:
            image = (image - self.shipped.mean) / self.shipped.deviation
        logits = taps.run(image)
        self.paths = list(taps.found)
        return self.shipped.said(logits), logits, *taps.found.values()


class GroupNormByLayers(nn.Module):
    """A group norm as a layer norm of each group, and a factor and a summand for each channel.

    OpenVINO 2026.4 crashes in single precision when it compiles a `GroupNormalization` whose result is added to another
    one's on small maps, as in SegNeXt's head below 512x512; in this form it runs, and takes no longer.
    """

    def __init__(self, norm: nn.GroupNorm, dynamic: bool = False) -> None:
        super().__init__()
        self.groups, self.eps, self.dynamic = norm.num_groups, norm.eps, dynamic
        self.weight, self.bias = norm.weight, norm.bias

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        groups = x.reshape(batch, self.groups, -1)
        if self.dynamic:
            # a layer norm would write the number of values of the traced size into the file
            centred = groups - groups.mean(-1, keepdim=True)
            normal = centred / torch.sqrt((centred * centred).mean(-1, keepdim=True) + self.eps)
        else:
            normal = F.layer_norm(groups, (channels // self.groups * height * width,), eps=self.eps)
        return normal.view(x.shape) * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)
