"""What a program may use of this machine: processors, memory, an accelerator's memory. Nothing here imports torch."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from segdsl.data.decode.decoded_cache import whole_memory

GIB = 1 << 30
QUOTAS = (
    (Path("/sys/fs/cgroup/cpu.max"), None),
    (Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us")),
)
"""Where it says how much time of the processors: a limit and the period that it is for, in one file or in two."""


@dataclass(frozen=True, slots=True)
class Machine:
    """``cores`` that this process may use, ``memory`` in bytes, and that of the ``accelerator``, 0 without one."""

    cores: int
    memory: int
    accelerator: int = 0


def this_machine() -> Machine:
    """The machine that this runs on."""
    return Machine(cores(), whole_memory(), accelerator_memory())


def cores() -> int:
    """The processors that this process may use, or what a container is allowed of their time, rounded up."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(bound, quota())))


def quota() -> float:
    """How many processors a container may keep busy; infinite where nothing says."""
    for limit, per in QUOTAS:
        words = f"{_content(limit)} {_content(per) if per else ''}".split()
        if len(words) == 2 and all(word.isdecimal() and int(word) > 0 for word in words):
            return int(words[0]) / int(words[1])
    return math.inf


def _content(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def accelerator_memory() -> int:
    """Bytes of the first NVIDIA accelerator, as its own tool tells; 0 where there is none."""
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
