"""Whether other programs slow the training on a CPU, and what to do about it.

OpenMP's threads wait for each other by spinning. With more busy threads than processors a thread that all others wait
for may not be running at all: measured with Lite-HRNet-s on two cores beside two other programs, a step took more than
5 s instead of 0.35; with GOMP_SPINCOUNT=1000 it took 1, and 0.5 without the other programs.
"""

from __future__ import annotations

import os


def advice() -> str:
    """What to do about it."""
    further = "" if "GOMP_SPINCOUNT" in os.environ else ", or start it with GOMP_SPINCOUNT=1000 in the environment"
    return f"other programs keep the processors busy, and training waits for them;\n      end them{further}"


def is_crowded(cpu_seconds: float, seconds: float, threads: int) -> bool:
    """Whether ``threads`` threads got less than half of the time that they asked for, on a machine that is full."""
    if not hasattr(os, "getloadavg") or seconds <= 0:
        return False
    full = os.getloadavg()[0] > 1.25 * (os.cpu_count() or 1)
    return full and cpu_seconds < 0.5 * threads * seconds
