"""Number format of a training step: single precision, or half precision on devices made for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from segdsl.diagnostics import fail
from segdsl.ir.program import Precision

HALF_PRECISIONS = {"cpu": ("bf16",), "cuda": ("bf16", "fp16"), "xpu": ("bf16", "fp16")}
"""The half-precision formats of each kind of device."""
NumberFormat = Literal["fp32", "bf16", "fp16"]


@dataclass(frozen=True, slots=True)
class StepPrecision:
    """The number format of a step on a device. Weights, optimizer state and loss are float32 in each of them."""

    format: NumberFormat
    device: torch.device

    def autocast(self) -> torch.autocast:
        """Return the context in which the network runs; ops that need float32 (softmax, norms) use it there too."""
        half = torch.float16 if self.format == "fp16" else torch.bfloat16
        return torch.autocast(self.device.type, half, enabled=self.format != "fp32")

    def build_scaler(self) -> torch.amp.GradScaler:
        """Return the loss scaler, which does nothing except in fp16."""
        # Scaling keeps small gradients above the smallest fp16 number (Micikevicius et al., 2018); bf16 has the
        # range of fp32 and does not need it.
        return torch.amp.GradScaler(self.device.type, enabled=self.format == "fp16")


def choose_precision(setting: Precision, device: torch.device) -> StepPrecision:
    """Return the number format for a value of `train.precision`. Raises SegError (`precision-not-here`).

    `auto` is bf16 on accelerators that compute in it, fp16 on older NVIDIA ones, else fp32.
    """
    # `auto` is fp32 on a CPU, where bf16 is slower: on a processor with AMX, a step of SegNeXt-T takes 1.4 times as
    # long in it, a step of Lite-HRNet-s 1.75 times.
    kinds = HALF_PRECISIONS.get(device.type, ())
    if setting == "auto":
        return StepPrecision(_choose_best_format(device), device)
    if setting != "fp32" and setting not in kinds:
        supported = ", ".join(f"`{name}`" for name in ("fp32", *kinds))
        raise fail(
            "precision-not-here",
            f"`{device}` does not support training with `train.precision = {setting}`",
            f"use one of {supported}, or `auto`",
        )
    return StepPrecision(setting, device)


def _choose_best_format(device: torch.device) -> NumberFormat:
    if device.type == "cuda":
        with torch.cuda.device(device):
            # Older cards report bf16 as supported but emulate it, which is slower than single precision.
            return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "bf16" if device.type == "xpu" else "fp32"
