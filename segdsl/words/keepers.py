"""Keepers: which checkpoints of a run stay on disk."""

from __future__ import annotations

from segdsl.ir.program import Keeper, PositiveInt


class Checkpoints(Keeper):
    """Keeps the weights of the best epochs by the monitored value, and those of the last one."""

    best: PositiveInt = 1
    """How many of the best epochs stay: `best.safetensors`, `best-2.safetensors`, …"""
    last: bool = True
    """Keep the last epoch too, with what is needed to go on."""
