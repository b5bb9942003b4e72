"""What a run will write is written once before its first step: a full disk is found at once and not after an epoch."""

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
    """Writes a text, the weights and a whole state, the optimizer's included, into the run folder; removes them again.

    The log is not tried here: its first row, and the first event of the curves, stand when it is opened. Raises
    SegError (`out-not-writable`, `checkpoint-not-written`, `disk-too-full`).
    """
    text, tensors = folder.root / ".trial", folder.checkpoints / "trial.safetensors"
    weights, whole = state.shipped(), {**state.tensors(), **optimizer_after_a_step(state)}
    try:
        text.write_text("trial\n", encoding="utf-8")
        write_checkpoint(tensors, weights, checkpoints.facts_of(state))
        if checkpoints.rule.keeps_state:
            write_checkpoint(tensors, whole, state.facts())
    except OSError as error:
        raise not_writable(folder.root) from error
    finally:
        for written in (text, tensors):
            with contextlib.suppress(OSError):
                written.unlink()
    # A checkpoint is complete before the one that it replaces goes: the largest stands there once more. Of the state,
    # the one before it is kept, too.
    kept = [size_of(weights)] * checkpoints.rule.best
    kept += [size_of(weights)] if checkpoints.rule.last else []
    kept += [size_of(whole)] * 2 if checkpoints.rule.keeps_state else []
    _require(sum(kept) + max(kept), folder)


def optimizer_after_a_step(state: TrainState) -> dict[str, Tensor]:
    """What the optimizer will keep for each parameter once it has made a step; nothing of the run is changed."""
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
    """Bytes of all of them."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def _require(needed: int, folder: RunFolder) -> None:
    # What a run that goes on has written is replaced.
    written = sum(file.stat().st_size for file in folder.checkpoints.iterdir())
    free = shutil.disk_usage(folder.root).free + written
    if free < needed:
        raise _too_full(needed, free, folder)


def _too_full(needed: int, free: int, folder: RunFolder) -> SegError:
    return fail(
        "disk-too-full",
        f"the checkpoints of this run take up to {needed / MIB:.0f} MiB, and the disk has {free / MIB:.0f} MiB left",
        "make room, name another folder with `--out`, or keep fewer (`train.keep = Checkpoints(best = 1)`)",
        path=str(folder.root),
    )
