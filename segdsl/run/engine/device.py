"""The device that a model runs on, by the name that `--device` gives."""

from __future__ import annotations

import torch

from segdsl.diagnostics import SegError, fail

KINDS = ("auto", "cpu", "cuda", "xpu", "mps")
"""What a name may begin with; a number may follow: `cuda:1`."""


def pick_device(wanted: str = "auto") -> torch.device:
    """The device called ``wanted``; `auto` is the accelerator if there is one, else the CPU.

    Raises SegError (`device-not-here`) for what this machine, or this build of PyTorch, does not have.
    """
    if wanted == "auto":
        found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return found or torch.device("cpu")
    here = devices_here()
    if wanted in here:
        return torch.device(wanted)
    if wanted in KINDS and f"{wanted}:0" in here:
        return torch.device(wanted, 0)
    raise _not_here(wanted, here)


def devices_here() -> tuple[str, ...]:
    """The devices of this machine: `cpu`, `cuda:0`, `cuda:1`, …"""
    kinds = [kind for kind in ("cuda", "xpu") if getattr(torch, kind).is_available()]
    numbered = [f"{kind}:{n}" for kind in kinds for n in range(getattr(torch, kind).device_count())]
    return ("cpu", *numbered, *(["mps"] if torch.backends.mps.is_available() else []))


def _not_here(wanted: str, here: tuple[str, ...]) -> SegError:
    kind = wanted.partition(":")[0]
    message = f"this machine has no device `{wanted}`" if kind in KINDS else f"`{wanted}` names no device"
    shown = ", ".join(f"`{name}`" for name in here)
    return fail("device-not-here", message, f"take what is here ({shown}), or `auto`, the accelerator if there is one")
