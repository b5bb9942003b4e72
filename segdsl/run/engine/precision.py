"""What a training step computes in: single precision, or half precision where the device is made for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from segdsl.diagnostics import fail
from segdsl.ir.program import Precision

HALF = {"cpu": ("bf16",), "cuda": ("bf16", "fp16"), "xpu": ("bf16", "fp16")}
"""The half precisions of each kind of device."""
Format = Literal["fp32", "bf16", "fp16"]


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """The number format of a step on a device. Weights, optimizer and loss are float32 in each of them."""

    format: Format
    device: torch.device

    def autocast(self) -> torch.autocast:
        """Where the network runs; ops that need float32 take it there, too (softmax, norms, matrix factorisation)."""
        half = torch.float16 if self.format == "fp16" else torch.bfloat16
        return torch.autocast(self.device.type, half, enabled=self.format != "fp32")

    def scaler(self) -> torch.amp.GradScaler:
        """What keeps small gradients above the least fp16 number (Micikevicius et al., 2018); idle otherwise."""
        return torch.amp.GradScaler(self.device.type, enabled=self.format == "fp16")


def choose_arithmetic(wanted: Precision, device: torch.device) -> Arithmetic:
    """The number format for a value of `train.precision`.

    `auto` is bf16 where an accelerator computes in it, fp16 on older NVIDIA ones, else fp32: on a CPU bf16 is slower
    (a step of SegNeXt-T takes 1.4 times as long, of Lite-HRNet-s 1.75 times, on a processor with AMX). Raises SegError
    (`precision-not-here`).
    """
    kinds = HALF.get(device.type, ())
    if wanted == "auto":
        return Arithmetic(_best(device), device)
    if wanted != "fp32" and wanted not in kinds:
        known = ", ".join(f"`{name}`" for name in ("fp32", *kinds))
        raise fail(
            "precision-not-here",
            f"`train.precision = {wanted}` cannot be trained in on `{device}`",
            f"use one of {known}, or `auto`",
        )
    return Arithmetic(wanted, device)


def _best(device: torch.device) -> Format:
    if device.type == "cuda":
        with torch.cuda.device(device):
            # Emulated bf16, which older cards report as supported, is slower than single precision.
            return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "bf16" if device.type == "xpu" else "fp32"
