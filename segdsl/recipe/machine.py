"""What a training run may use of this machine: CPU cores, memory and GPU memory. Imports no torch."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from segdsl.data.decode.decoded_cache import get_total_memory

GIB = 1 << 30
CPU_QUOTA_FILES = (
    (Path("/sys/fs/cgroup/cpu.max"), None),
    (Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us")),
)
"""Files with the CPU time that a container may use: a limit and its period, in one file (cgroup 2) or in two (cgroup
1)."""


@dataclass(frozen=True, slots=True)
class Machine:
    """The ``cores`` available to this process, the ``memory`` in bytes, and the memory of the GPU in bytes, 0 without
    one."""

    cores: int
    memory: int
    accelerator_bytes: int = 0


def detect_machine() -> Machine:
    """Return the resources of the current machine."""
    return Machine(count_cores(), get_total_memory(), read_accelerator_memory())


def count_cores() -> int:
    """Return the number of cores available to this process; a container's CPU quota limits it, rounded up."""
    # os.cpu_count() ignores the CPU affinity that schedulers such as Slurm set.
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(bound, read_cpu_quota())))


def read_cpu_quota() -> float:
    """Return the number of cores that a container may keep busy, or infinity without a limit."""
    for limit, per in CPU_QUOTA_FILES:
        words = f"{_read_text(limit)} {_read_text(per) if per else ''}".split()
        if len(words) == 2 and all(word.isdecimal() and int(word) > 0 for word in words):
            return int(words[0]) / int(words[1])
    return math.inf


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def read_accelerator_memory() -> int:
    """Return the memory of the first NVIDIA GPU in bytes, as reported by `nvidia-smi`, or 0 without one."""
    # Asking torch would take seconds to import it, and `segdsl new` needs nothing else of it.
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return 0
    command = [tool, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError):
        return 0
    first = (done.stdout.splitlines() or [""])[0].strip()
    return int(first) << 20 if done.returncode == 0 and first.isdecimal() else 0
