"""Description of the machine that trains a run; a file of its own keeps `lock.json` free of the machine."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

import torch

from segdsl.data.decode.decoded_cache import get_total_memory
from segdsl.recipe.machine import count_cores
from segdsl.run.folder.layout import RunFolder, not_writable_error
from segdsl.storage.atomic import write_text_atomically
from segdsl.version import __version__

CPUINFO_FILE = Path("/proc/cpuinfo")


def write_machine(folder: RunFolder, device: torch.device) -> None:
    """Write `machine.json`. Raises SegError (`out-not-writable`)."""
    try:
        write_text_atomically(folder.machine, json.dumps(collect_machine_facts(device), indent=2) + "\n")
    except OSError as error:
        raise not_writable_error(folder.root) from error


def collect_machine_facts(device: torch.device) -> dict[str, Any]:
    """Return the facts of this machine: ``memory`` in bytes, ``threads`` those of torch."""
    return {
        "device": str(device),
        "accelerator": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "cpu": _read_cpu_name(),
        "cores": count_cores(),
        "threads": torch.get_num_threads(),
        "memory": get_total_memory(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "segdsl": __version__,
    }


def _read_cpu_name() -> str:
    try:
        lines = CPUINFO_FILE.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    # `platform.processor()` is empty on most Linux systems, so the kernel's own list comes first.
    names = [line.partition(":")[2].strip() for line in lines if line.lower().startswith("model name")]
    return next(filter(None, names), platform.processor() or platform.machine())
