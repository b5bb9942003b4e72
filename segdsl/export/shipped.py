"""What is exported: a trained model in the form that OpenVINO takes best."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Shipped(nn.Module):
    """The model followed by a softmax over the classes, on the CPU, in evaluation."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        # A copy: the caller's model keeps its device, its memory format and its mode.
        copied = copy.deepcopy(model).cpu().to(memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]
        for name, module in list(copied.named_modules()):
            if isinstance(module, nn.GroupNorm):
                copied.set_submodule(name, GroupNormByLayers(module))
        self.model = copied

    def forward(self, image: Tensor) -> Tensor:
        return self.model(image).softmax(1)


class GroupNormByLayers(nn.Module):
    """A group norm as a layer norm of each group, and a factor and a summand for each channel.

    OpenVINO 2026.4 crashes in single precision when it compiles a `GroupNormalization` whose result is added to another
    one's on small maps, as in SegNeXt's head below 512x512; in this form it runs, and takes no longer.
    """

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self.groups, self.eps = norm.num_groups, norm.eps
        self.weight, self.bias = norm.weight, norm.bias

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        groups = x.reshape(batch, self.groups, -1)
        normal = F.layer_norm(groups, (channels // self.groups * height * width,), eps=self.eps).view(x.shape)
        return normal * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)
