"""Threads and processes of a run on a CPU: how many there are, whether others slow them, and what to do about it.

OpenMP's threads wait for each other by spinning. With more busy threads than processors a thread that all others wait
for may not be running at all: measured with Lite-HRNet-s on two cores beside two other programs, a step took more than
5 s instead of 0.35; with GOMP_SPINCOUNT=1000 it took 1, and 0.5 without the other programs.
"""

from __future__ import annotations

import os

import torch

from segdsl.recipe.machine import cores

VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""What a user sets the number of threads with."""


def settle_threads(workers: int) -> list[str]:
    """Leaves no more threads than cores where the user has not said how many, and says what is too many all the same.

    PyTorch starts a thread for each processor of the machine, also in a container that is given the time of a few.
    ``workers`` are the processes that load images beside it.
    """
    here, threads, notes = cores(), torch.get_num_threads(), []
    said = next((name for name in VARIABLES if name in os.environ), None)
    if threads > here and said is None:
        torch.set_num_threads(here)
        notes.append(f"training with {counted(here, 'thread')}, as many as this process is given cores of the machine")
    elif threads > here:
        notes.append(f"{said} asks for {threads} threads on {counted(here, 'core')}: they wait for each other")
    if workers > here:
        notes.append(f"{workers} processes load images on {counted(here, 'core')}: lower `data.train.workers`")
    return notes


def advice(workers: int) -> str:
    """What to do where training waits for the processors; ``workers`` are the run's own processes that load images."""
    here, threads = cores(), torch.get_num_threads()
    waits = threads > 1 and "GOMP_SPINCOUNT" not in os.environ  # one thread has no other to wait for
    further = ", or start it with GOMP_SPINCOUNT=1000 in the environment" if waits else ""
    if threads + workers > here + 1:
        own = f"{counted(threads, 'thread')} and {workers} loading processes share {counted(here, 'core')}"
        return f"the processors are busy, and training waits for them: {own}; lower `data.train.workers`{further}"
    return f"other programs keep the processors busy, and training waits for them; end them{further}"


def counted(number: int, what: str) -> str:
    """`1 core`, `2 cores`."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def is_crowded(cpu_seconds: float, seconds: float, threads: int) -> bool:
    """Whether ``threads`` threads got less than half of the time that they asked for, on a machine that is full."""
    if not hasattr(os, "getloadavg") or seconds <= 0:
        return False
    full = os.getloadavg()[0] > 1.25 * (os.cpu_count() or 1)
    return full and cpu_seconds < 0.5 * threads * seconds
