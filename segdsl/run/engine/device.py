"""Choosing the device that a model runs on, from the name given as `--device`."""

from __future__ import annotations

import torch

from segdsl.diagnostics import SegError, fail

DEVICE_KINDS = ("auto", "cpu", "cuda", "xpu", "mps")
"""Kinds of device; a number may follow: `cuda:1`."""


def pick_device(device_name: str = "auto") -> torch.device:
    """Return the device called ``device_name``; `auto` is the accelerator if there is one, else the CPU.

    Raises SegError (`device-not-here`) if this machine, or this build of PyTorch, does not have it.
    """
    if device_name == "auto":
        found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return found or torch.device("cpu")
    available = list_devices()
    if device_name in available:
        return torch.device(device_name)
    if device_name in DEVICE_KINDS and f"{device_name}:0" in available:
        return torch.device(device_name, 0)
    raise _missing_device_error(device_name, available)


def list_devices() -> tuple[str, ...]:
    """Return the devices of this machine: `cpu`, `cuda:0`, `cuda:1`, …"""
    # `mps` is not numbered: a Mac has one.
    kinds = [kind for kind in ("cuda", "xpu") if getattr(torch, kind).is_available()]
    numbered = [f"{kind}:{n}" for kind in kinds for n in range(getattr(torch, kind).device_count())]
    return ("cpu", *numbered, *(["mps"] if torch.backends.mps.is_available() else []))


def _missing_device_error(device_name: str, available: tuple[str, ...]) -> SegError:
    kind = device_name.partition(":")[0]
    message = (
        f"this machine has no device `{device_name}`" if kind in DEVICE_KINDS else f"`{device_name}` is not a device"
    )
    names = ", ".join(f"`{name}`" for name in available)
    return fail(
        "device-not-here", message, f"use an available device ({names}), or `auto` for the accelerator if there is one"
    )
