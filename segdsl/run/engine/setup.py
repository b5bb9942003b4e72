"""Preparing a run: everything is built and checked before the first step, so that no mistake surfaces hours later."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import fx, nn

from segdsl.data.check.checker import CheckReport, ProgressCallback
from segdsl.data.check.index import Index
from segdsl.data.decode.decoded_cache import resolve_cache_budget
from segdsl.data.loading.loader import EvalLoader, TrainLoader, make_loaders, make_normalizer
from segdsl.data.stats.class_weights import compute_subset_weights
from segdsl.diagnostics import fail
from segdsl.ir.program import Program
from segdsl.lower.compiled import CompileResult, compile_program
from segdsl.lower.freeze import freeze_parts
from segdsl.run.engine.criterion import Criterion, build_criterion
from segdsl.run.engine.device import pick_device
from segdsl.run.engine.group_loss import GroupLoss, build_group_loss
from segdsl.run.engine.machine_faults import diagnose_machine_faults
from segdsl.run.engine.optimizers import build_optimizer
from segdsl.run.engine.precision import StepPrecision, choose_precision
from segdsl.run.engine.validate import score_model
from segdsl.run.program_data import open_checked_data
from segdsl.weights.fetch import Watcher
from segdsl.words.schedules import Horizon


@dataclass(frozen=True, slots=True)
class Setup:
    """A prepared run. ``network`` is the normalization followed by ``model``; it takes uint8 images (N, C, H, W).

    ``loss`` is what steps minimize, ``criterion`` the same for a single batch; ``class_weights`` are those that the
    loss counted in the data, by class, else empty.
    """

    program: Program
    index: Index
    model: fx.GraphModule
    network: nn.Sequential
    criterion: Criterion
    loss: GroupLoss
    optimizer: torch.optim.Optimizer
    train_loader: TrainLoader
    val_loader: EvalLoader
    horizon: Horizon
    device: torch.device
    precision: StepPrecision
    report: CheckReport
    class_weights: dict[str, float]


def compile_start_model(program: Program, weights: str | None = None, watcher: Watcher | None = None) -> CompileResult:
    """Return the model that a run starts from, before the data is read.

    ``watcher`` follows the download of weights. Raises SegError if the program or its weights are at fault.
    """
    _check_trainable(program)
    # Before the model is built: its random weights are drawn here.
    torch.manual_seed(program.train.seed)
    return compile_program(program, weights, watcher=watcher)


def prepare_run(
    compiled: CompileResult,
    data: str | Path | None = None,
    progress: ProgressCallback | None = None,
    device: torch.device | None = None,
) -> Setup:
    """Open and check the data, build the objects of a run, and try one validation batch.

    ``progress`` is called with the number of files checked; without ``device`` the accelerator is used if there is one.
    Raises SegError if program, data or device are at fault.
    """
    program, model = compiled.program, compiled.model
    device = device or pick_device()
    arithmetic = choose_precision(program.train.precision, device)
    index, report = open_checked_data(program, data, progress)
    network = build_network(program, model, device)
    # Before the optimizer is built, which takes only parameters that require a gradient.
    freeze_parts(model, program.train.freeze)
    train, val = make_loaders(program, index, report.class_presence[program.data.train.subset])
    loss, weights = program.train.loss, list[float]()
    assert loss is not None and program.train.optimizer is not None
    if loss.needs_class_weights():
        weights = compute_subset_weights(report, program.data.train.subset, index.ignore)
        loss = loss.replace_auto_weights(weights)
    setup = Setup(
        program=program,
        index=index,
        model=model,
        network=network,
        criterion=build_criterion(loss, len(program.classes), index.ignore),
        loss=build_group_loss(loss, len(program.classes), index.ignore),
        optimizer=build_optimizer(program.train.optimizer, model),
        train_loader=train,
        val_loader=val,
        horizon=Horizon(math.ceil(len(train) / program.train.accumulate), program.train.epochs),
        device=device,
        precision=arithmetic,
        report=report,
        class_weights=dict(zip(program.classes, weights, strict=bool(weights))),
    )
    with diagnose_machine_faults():
        _try_validation_batch(setup)
    return setup


def build_network(program: Program, model: nn.Module, device: torch.device) -> nn.Sequential:
    """Return the normalization followed by ``model``, on a device: takes uint8 images (N, C, H, W)."""
    network = nn.Sequential(make_normalizer(program.data.normalize, program.channels), model)
    # Convolutions are faster in channels-last memory, on CPUs and on tensor cores.
    return network.to(device).to(memory_format=torch.channels_last)


def _check_trainable(program: Program) -> None:
    for key, example in (("loss", "CrossEntropy()"), ("optimizer", "AdamW(lr = 1e-3)")):
        if getattr(program.train, key) is None:
            raise fail(
                "train-incomplete",
                f"the program has no `train.{key}`",
                f'set `train.{key} = {example}`, or extend the standard program: `extends "std/semantic.seg"`',
            )
    resolve_cache_budget(program)  # called for its errors, which should come before the data is read
    outputs = ", ".join(f"`{name}`" for name in program.graph.outputs)
    if len(program.graph.outputs) != 1:
        raise fail(
            "train-incomplete",
            f"training needs exactly one `out`; `{program.graph.name}` has {outputs}",
            "keep only the `out` with the logits; `segdsl.compile(…, outputs = [path])` returns the other tensors",
        )


def _try_validation_batch(setup: Setup) -> None:
    """Run one validation batch, so that a fault ends the run before it begins and not after the first epoch."""
    # Without workers: an error in one of them is harder to trace, and starting them takes seconds.
    batch = next(iter(EvalLoader(setup.val_loader.dataset, setup.val_loader.batch, workers=0)))
    score_model(setup.network, [batch], setup.program.classes, setup.index.ignore, setup.criterion)
