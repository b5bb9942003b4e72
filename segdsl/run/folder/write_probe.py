"""Test writes before the first step, so that a full or read-only disk is found at once and not after an epoch."""

from __future__ import annotations

import contextlib
import copy
import shutil

import torch
from torch import Tensor

from segdsl.diagnostics import SegError, fail
from segdsl.run.engine.state import TrainState
from segdsl.run.folder.checkpoint import CheckpointWriter, write_checkpoint
from segdsl.run.folder.layout import RunFolder, not_writable

MIB = 1 << 20


def try_writing(folder: RunFolder, checkpoints: CheckpointWriter, state: TrainState) -> None:
    """Write a text file, the weights and a full training state into the run folder, and remove them again.

    Raises SegError (`out-not-writable`, `checkpoint-not-written`, `disk-too-full`).
    """
    # The log needs no test: opening it has written its header and the first TensorBoard event.
    text, tensors = folder.root / ".trial", folder.checkpoints / "trial.safetensors"
    weights, full_state = state.shipped(), {**state.tensors(), **optimizer_after_a_step(state)}
    try:
        text.write_text("trial\n", encoding="utf-8")
        write_checkpoint(tensors, weights, checkpoints.facts_of(state))
        if checkpoints.rule.keeps_state:
            write_checkpoint(tensors, full_state, state.facts())
    except OSError as error:
        raise not_writable(folder.root) from error
    finally:
        for file in (text, tensors):
            with contextlib.suppress(OSError):
                file.unlink()
    # A checkpoint is complete before the one it replaces is removed, so the largest needs its space twice. The previous
    # state is kept too.
    sizes = [size_of(weights)] * checkpoints.rule.best
    sizes += [size_of(weights)] if checkpoints.rule.last else []
    sizes += [size_of(full_state)] * 2 if checkpoints.rule.keeps_state else []
    _require(sum(sizes) + max(sizes), folder)


def optimizer_after_a_step(state: TrainState) -> dict[str, Tensor]:
    """Return the tensors that the optimizer will store once it has made a step. Changes nothing in ``state``."""
    # A real step on a copy: torch's optimizers create their state only then, and each has a different one.
    trial = copy.deepcopy(state.optimizer)
    for group in trial.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    trial.step()
    return {
        f"{kind}:{number}": value
        for number, values in enumerate(trial.state.values())
        for kind, value in values.items()
        if isinstance(value, Tensor)
    }


def size_of(tensors: dict[str, Tensor]) -> int:
    """Return the size of all tensors in bytes."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def _require(needed: int, folder: RunFolder) -> None:
    # A resumed run replaces its existing checkpoints, so their space counts as free.
    existing = sum(file.stat().st_size for file in folder.checkpoints.iterdir())
    free = shutil.disk_usage(folder.root).free + existing
    if free < needed:
        raise _too_full(needed, free, folder)


def _too_full(needed: int, free: int, folder: RunFolder) -> SegError:
    return fail(
        "disk-too-full",
        f"the checkpoints of this run need up to {needed / MIB:.0f} MiB, but only {free / MIB:.0f} MiB are free",
        "free disk space, choose another folder with `--out`, or keep fewer (`train.keep = Checkpoints(best = 1)`)",
        path=str(folder.root),
    )
