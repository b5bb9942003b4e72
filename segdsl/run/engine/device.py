"""Choosing the device that a model runs on, from the name given as `--device`."""

from __future__ import annotations

import torch

from segdsl.diagnostics import SegError, fail

KINDS = ("auto", "cpu", "cuda", "xpu", "mps")
"""Kinds of device; a number may follow: `cuda:1`."""


def pick_device(wanted: str = "auto") -> torch.device:
    """Return the device called ``device_name``; `auto` is the accelerator if there is one, else the CPU.

    Raises SegError (`device-not-here`) if this machine, or this build of PyTorch, does not have it.
    """
    if wanted == "auto":
        found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return found or torch.device("cpu")
    available = devices_here()
    if wanted in available:
        return torch.device(wanted)
    if wanted in KINDS and f"{wanted}:0" in available:
        return torch.device(wanted, 0)
    raise _not_here(wanted, available)


def devices_here() -> tuple[str, ...]:
    """Return the devices of this machine: `cpu`, `cuda:0`, `cuda:1`, …"""
    # `mps` is not numbered: a Mac has one.
    kinds = [kind for kind in ("cuda", "xpu") if getattr(torch, kind).is_available()]
    numbered = [f"{kind}:{n}" for kind in kinds for n in range(getattr(torch, kind).device_count())]
    return ("cpu", *numbered, *(["mps"] if torch.backends.mps.is_available() else []))


def _not_here(wanted: str, here: tuple[str, ...]) -> SegError:
    kind = wanted.partition(":")[0]
    message = f"this machine has no device `{wanted}`" if kind in KINDS else f"`{wanted}` is not a device"
    names = ", ".join(f"`{name}`" for name in here)
    return fail(
        "device-not-here", message, f"use an available device ({names}), or `auto` for the accelerator if there is one"
    )
