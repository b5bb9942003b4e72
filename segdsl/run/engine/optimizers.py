"""Building torch optimizers from optimizer words: parameter groups, and the learning rates of each step."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Sequence

import torch
from torch import nn

from segdsl.diagnostics import fail
from segdsl.ir.program import Optimizer, Schedule
from segdsl.words.optimizers import NON_TORCH_FIELDS, Group, find_group
from segdsl.words.schedules import Horizon, compute_rate_factor

BASE_RATE = "initial_lr"
"""Key of a group's learning rate before the schedule scales it; torch's own schedulers use the same key."""


def build_optimizer(word: Optimizer, model: nn.Module) -> torch.optim.Optimizer:
    """Build the torch optimizer of a word for the parameters of ``model`` that require a gradient.

    Its groups are those of the word that have parameters, preceded by one for all other parameters; a group is split in
    two if some of its parameters do not decay. Raises SegError (`nothing-to-train`) if all parameters are frozen.
    """
    arguments = {field: getattr(word, field) for field in type(word).model_fields if field not in NON_TORCH_FIELDS}
    own = {field: getattr(word, field) for field in NON_TORCH_FIELDS}
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            group = find_group(name, own["groups"])
            number = -1 if group is None else own["groups"].index(group)
            decays = own["decay"] == "all" or _is_weight(name, model)
            groups.setdefault((number, decays), []).append(parameter)
    if not groups:
        raise fail(
            "nothing-to-train",
            "every parameter of the model is frozen",
            "remove parts from `train.freeze`",
        )
    param_groups = []
    for (number, decays), parameters in sorted(groups.items(), key=lambda item: (item[0][0], not item[0][1])):
        group = own["groups"][number] if number >= 0 else Group.build_unchecked({"paths": ()})
        rate = arguments["lr"] if group.lr is None else group.lr
        decay = arguments["weight_decay"] if group.weight_decay is None else group.weight_decay
        param_groups.append(
            {"params": parameters, "lr": rate, BASE_RATE: rate, "weight_decay": decay if decays else 0.0}
        )
    module, name = word.target.split(":")
    implementation = getattr(importlib.import_module(module), name)
    # One kernel for all parameters takes a third of the time on a CPU, but not every optimizer has one.
    fused = {"fused": True} if "fused" in inspect.signature(implementation).parameters else {}
    return implementation(param_groups, **arguments, **fused)


def set_rates(
    optimizer: torch.optim.Optimizer,
    schedule: Sequence[Schedule],
    step: int,
    horizon: Horizon,
    history: Sequence[float] = (),
) -> float:
    """Set the learning rate of every group for ``step`` (from 0): its own, scaled by the schedule.

    ``history`` is the monitored value after each epoch that has ended, larger being better. Return the optimizer's own
    rate.
    """
    scale = compute_rate_factor(schedule, step, horizon, history)
    for group in optimizer.param_groups:
        group["lr"] = group[BASE_RATE] * scale
    return optimizer.defaults["lr"] * scale


def _is_weight(name: str, model: nn.Module) -> bool:
    """Return whether a parameter is the kernel of a convolution or the matrix of a linear layer."""
    owner, _, leaf = name.rpartition(".")
    return leaf == "weight" and isinstance(model.get_submodule(owner), nn.Conv2d | nn.Linear)
