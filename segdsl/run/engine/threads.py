"""Threads and worker processes of a run on a CPU: how many to use, and what to do if they compete for cores.

OpenMP's threads wait for each other by spinning. With more busy threads than cores, a thread that all others wait for
may not be running at all: measured with Lite-HRNet-s on two cores beside two other programs, a step took more than 5 s
instead of 0.35 s; with GOMP_SPINCOUNT=1000 it took 1 s, and 0.5 s without the other programs.
"""

from __future__ import annotations

import os

import torch

from segdsl.recipe.machine import count_cores
from segdsl.text.plural import format_count

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Environment variables in which a user sets the number of threads."""


def limit_threads(workers: int) -> list[str]:
    """Use no more threads than cores unless the user has set their number. Return notes on what is too many.

    ``workers`` is the number of data-loader workers.
    """
    # PyTorch starts a thread for each core of the machine, even in a container that may use only a few of them.
    available, threads, notes = count_cores(), torch.get_num_threads(), []
    variable = next((name for name in THREAD_VARIABLES if name in os.environ), None)
    if threads > available and variable is None:
        torch.set_num_threads(available)
        notes.append(f"training with {format_count(available, 'thread')}, one for each core that this process may use")
    elif threads > available:
        notes.append(
            f"{variable} asks for {threads} threads on {format_count(available, 'core')}: they slow each other down"
        )
    if workers > available:
        notes.append(f"{workers} workers load images on {format_count(available, 'core')}: lower `data.train.workers`")
    return notes


def format_crowding_advice(workers: int) -> str:
    """Return what to do if training has to wait for cores; ``workers`` is the number of data-loader workers."""
    available, threads = count_cores(), torch.get_num_threads()
    # A single thread has no other to wait for, so spinning is no issue.
    can_spin = threads > 1 and "GOMP_SPINCOUNT" not in os.environ
    further = ", or set GOMP_SPINCOUNT=1000 in the environment" if can_spin else ""
    if threads + workers > available + 1:
        cores = format_count(available, "core")
        own = f"{format_count(threads, 'thread')} and {format_count(workers, 'worker')} share {cores}"
        return f"training is slowed down by busy CPU cores: {own}; lower `data.train.workers`{further}"
    return f"training is slowed down by other programs that keep the CPU busy; end them{further}"


def is_crowded(cpu_seconds: float, seconds: float, threads: int) -> bool:
    """Return whether ``threads`` threads got less than half of their CPU time, on a fully loaded machine."""
    if not hasattr(os, "getloadavg") or seconds <= 0:
        return False
    # The load tells waiting for other programs from waiting for data, which leaves cores idle.
    full = os.getloadavg()[0] > 1.25 * (os.cpu_count() or 1)
    return full and cpu_seconds < 0.5 * threads * seconds
