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
from segdsl.run.folder.layout import RunFolder, not_writable_error

MIB = 1 << 20


def probe_writing(folder: RunFolder, checkpoints: CheckpointWriter, state: TrainState) -> None:
    """Write a text file, the weights and a full training state into the run folder, and remove them again.

    Raises SegError (`out-not-writable`, `checkpoint-not-written`, `disk-too-full`).
    """
    # The log needs no test: opening it has written its header and the first TensorBoard event.
    text, tensors = folder.root / ".trial", folder.checkpoints / "trial.safetensors"
    weights, full_state = state.collect_weights(), {**state.collect_tensors(), **simulate_optimizer_step(state)}
    try:
        text.write_text("trial\n", encoding="utf-8")
        write_checkpoint(tensors, weights, checkpoints.collect_facts(state))
        if checkpoints.policy.can_resume:
            write_checkpoint(tensors, full_state, state.collect_facts())
    except OSError as error:
        raise not_writable_error(folder.root) from error
    finally:
        for file in (text, tensors):
            with contextlib.suppress(OSError):
                file.unlink()
    # A checkpoint is complete before the one it replaces is removed, so the largest needs its space twice. The previous
    # state is kept too.
    sizes = [count_bytes(weights)] * checkpoints.policy.best
    sizes += [count_bytes(weights)] if checkpoints.policy.last else []
    sizes += [count_bytes(full_state)] * 2 if checkpoints.policy.can_resume else []
    _check_disk_space(sum(sizes) + max(sizes), folder)


def simulate_optimizer_step(state: TrainState) -> dict[str, Tensor]:
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


def count_bytes(tensors: dict[str, Tensor]) -> int:
    """Return the size of all tensors in bytes."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def _check_disk_space(byte_count: int, folder: RunFolder) -> None:
    # A resumed run replaces its existing checkpoints, so their space counts as free.
    existing = sum(file.stat().st_size for file in folder.checkpoints.iterdir())
    free = shutil.disk_usage(folder.root).free + existing
    if free < byte_count:
        raise _disk_full_error(byte_count, free, folder)


def _disk_full_error(byte_count: int, free_bytes: int, folder: RunFolder) -> SegError:
    return fail(
        "disk-too-full",
        f"the checkpoints of this run need up to {byte_count / MIB:.0f} MiB, "
        f"but only {free_bytes / MIB:.0f} MiB are free",
        "free disk space, choose another folder with `--out`, or keep fewer (`train.keep = Checkpoints(best = 1)`)",
        path=str(folder.root),
    )
