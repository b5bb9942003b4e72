"""Everything that a run needs before its first step, checked: what is at fault is said here and not hours later."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import fx, nn

from segdsl.data.check.checker import CheckReport, Progress
from segdsl.data.check.index import Index
from segdsl.data.decode.decoded_cache import cache_budget
from segdsl.data.loading.loader import EvalLoader, TrainLoader, loaders, normalizer
from segdsl.data.stats.class_weights import counted_weights
from segdsl.diagnostics import fail
from segdsl.ir.program import Program
from segdsl.lower.compiled import Compiled, compile_program
from segdsl.lower.freeze import freeze
from segdsl.run.engine.criterion import Criterion, build_criterion
from segdsl.run.engine.device import pick_device
from segdsl.run.engine.group_loss import GroupLoss, group_loss
from segdsl.run.engine.machine_faults import explained
from segdsl.run.engine.optimizers import build_optimizer
from segdsl.run.engine.precision import Arithmetic, choose_arithmetic
from segdsl.run.engine.validate import score
from segdsl.run.program_data import checked_data
from segdsl.weights.fetch import Watcher
from segdsl.words.losses import asks_for_weights, with_weights
from segdsl.words.schedules import Horizon


@dataclass(frozen=True, slots=True)
class Setup:
    """A prepared run. ``network`` is the normalisation followed by ``model``; it takes uint8 images (N, C, H, W).

    ``loss`` is what steps minimise, ``criterion`` the same of a single batch; ``class_weights`` are those that it took
    from the data, by class, empty where it did not.
    """

    program: Program
    index: Index
    model: fx.GraphModule
    network: nn.Sequential
    criterion: Criterion
    loss: GroupLoss
    optimizer: torch.optim.Optimizer
    train: TrainLoader
    val: EvalLoader
    horizon: Horizon
    device: torch.device
    arithmetic: Arithmetic
    report: CheckReport
    class_weights: dict[str, float]


def start_model(program: Program, weights: str | None = None, watcher: Watcher | None = None) -> Compiled:
    """The model that a run starts from, before the data is read: a file of weights that does not fit is said first.

    ``watcher`` is told of weights that are fetched. Raises SegError with what is at fault.
    """
    _check_complete(program)
    torch.manual_seed(program.train.seed)
    return compile_program(program, weights, watcher=watcher)


def prepare(
    compiled: Compiled,
    data: str | Path | None = None,
    progress: Progress | None = None,
    device: torch.device | None = None,
) -> Setup:
    """Opens and checks the data, builds the objects of a run, and tries one validation batch.

    ``progress`` is told how many files are checked; without ``device`` it is the accelerator if there is one. Raises
    SegError with what is at fault.
    """
    program, model = compiled.program, compiled.model
    device = device or pick_device()
    arithmetic = choose_arithmetic(program.train.precision, device)
    index, report = checked_data(program, data, progress)
    network = network_of(program, model, device)
    freeze(model, program.train.freeze)
    train, val = loaders(program, index, report.shown[program.data.train.subset])
    loss, weights = program.train.loss, list[float]()
    assert loss is not None and program.train.optimizer is not None
    if asks_for_weights(loss):
        weights = counted_weights(report, program.data.train.subset, index.ignore)
        loss = with_weights(loss, weights)
    setup = Setup(
        program=program,
        index=index,
        model=model,
        network=network,
        criterion=build_criterion(loss, len(program.classes), index.ignore),
        loss=group_loss(loss, len(program.classes), index.ignore),
        optimizer=build_optimizer(program.train.optimizer, model),
        train=train,
        val=val,
        horizon=Horizon(math.ceil(len(train) / program.train.accumulate), program.train.epochs),
        device=device,
        arithmetic=arithmetic,
        report=report,
        class_weights=dict(zip(program.classes, weights, strict=bool(weights))),
    )
    with explained():
        _try_validation(setup)
    return setup


def network_of(program: Program, model: nn.Module, device: torch.device) -> nn.Sequential:
    """The normalisation followed by ``model``, on a device: takes uint8 images (N, C, H, W)."""
    network = nn.Sequential(normalizer(program.data.normalize, program.channels), model)
    return network.to(device).to(memory_format=torch.channels_last)


def _check_complete(program: Program) -> None:
    for key, example in (("loss", "CrossEntropy()"), ("optimizer", "AdamW(lr = 1e-3)")):
        if getattr(program.train, key) is None:
            raise fail(
                "train-incomplete",
                f"the program has no `train.{key}`",
                f'set `train.{key} = {example}`, or start from `extends "std/semantic.seg"`',
            )
    cache_budget(program)  # what it refuses is said before the data is read
    outputs = ", ".join(f"`{name}`" for name in program.graph.outputs)
    if len(program.graph.outputs) != 1:
        raise fail(
            "train-incomplete",
            f"a model that is trained has one `out`, `{program.graph.name}` has {outputs}",
            "keep the `out` with the logits; `segdsl.compile(…, outputs = [path])` gives the other tensors",
        )


def _try_validation(setup: Setup) -> None:
    """One validation batch through everything that a validation does; a fault ends the run before it begins."""
    batch = next(iter(EvalLoader(setup.val.dataset, setup.val.batch, workers=0)))
    score(setup.network, [batch], setup.program.classes, setup.index.ignore, setup.criterion)
