"""Exponential moving average (EMA) of a model's weights over the steps of a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from segdsl.ir.families import Averager


class WeightAverage:
    """The exponential moving average of everything that training moves in a model, by name.

    That is the parameters that require a gradient and all floating-point buffers. Counters and frozen parameters are
    the model's own.
    """

    def __init__(self, word: Averager, model: nn.Module) -> None:
        self.word, self.updates = word, 0
        moved = [(name, p.detach()) for name, p in model.named_parameters() if p.requires_grad]
        # Running means and variances are averaged too, not copied from the model: the model's describe the
        # activations of its current weights, which are not those that the averaged weights produce.
        moved += [(name, buffer) for name, buffer in model.named_buffers() if buffer.is_floating_point()]
        self._live_tensors: dict[str, Tensor] = dict(moved)
        self.means = {name: tensor.clone() for name, tensor in moved}

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the current weights; call it after each optimizer step."""
        decay = self.word.compute_decay(self.updates)
        get_ema_multi_avg_fn(decay)(list(self.means.values()), list(self._live_tensors.values()), self.updates)
        self.updates += 1

    @contextmanager
    def apply_average(self) -> Iterator[None]:
        """Let the model use the average inside the block; its own weights come back afterwards, bit for bit."""
        # A copy, not a subtraction of the average: training must continue from exactly the same bits.
        own = {name: tensor.clone() for name, tensor in self._live_tensors.items()}
        try:
            self._copy_values(self.means)
            yield
        finally:
            self._copy_values(own)

    @torch.no_grad()
    def _copy_values(self, values: dict[str, Tensor]) -> None:
        for name, tensor in self._live_tensors.items():
            tensor.copy_(values[name])
