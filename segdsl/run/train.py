"""Training: everything is checked and prepared first, then one loop that reads from top to bottom."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from segdsl.data.loader import Batch
from segdsl.ir.program import Program
from segdsl.lang.lints import frozen_at_random
from segdsl.lang.rates import length_findings
from segdsl.run.accumulation import groups
from segdsl.run.average import WeightAverage
from segdsl.run.checkpoint import CheckpointWriter
from segdsl.run.clock import Clock
from segdsl.run.device import pick_device
from segdsl.run.display import Display, Head
from segdsl.run.evaluate import score
from segdsl.run.faults import explained
from segdsl.run.folder import RunFolder, check_out, create_run, write_program
from segdsl.run.log import EpochRow, RunLog
from segdsl.run.machine import write_machine
from segdsl.run.nonfinite import not_finite
from segdsl.run.optimizers import set_rates
from segdsl.run.report.write import report_at_end
from segdsl.run.setup import Setup, prepare, start_model
from segdsl.run.sources import resolve_classes, settings_seen_from
from segdsl.run.state import Progress, TrainState, noise_seed
from segdsl.run.threads import advice, is_crowded, settle_threads
from segdsl.run.trial import try_writing
from segdsl.weights.positions import MADE_FOR
from segdsl.words.averagers import EMA
from segdsl.words.keepers import Checkpoints
from segdsl.words.stoppers import EarlyStopping

MUCH_WAITING = 0.1
"""Share of the training time from which on waiting for data is worth a word."""
MOST_OVERFLOWS = 24
"""Steps in a row that fp16 may be too narrow for, while the factor of the loss, halved in each, falls from 65536."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """A finished run: its folder, the epochs it took, the scores of the best one, and the wall time."""

    run: Path
    epochs: int
    best: dict[str, float]
    seconds: float


def train_file(
    path: str | Path,
    overrides: Iterable[str] = (),
    data: str | Path | None = None,
    weights: str | None = None,
    out: str | Path | None = None,
    quiet: bool = False,
    device: str = "auto",
) -> RunResult:
    """Trains the program in a `.seg` file; classes that it does not name are read from the data set.

    ``data`` is relative to the working directory, `data.root` to the program; ``device`` is `cpu`, `cuda`, `cuda:1`,
    `xpu`, `mps` or `auto`. Raises SegError before the first step
    when program, data, weights or output folder are at fault.
    """
    pick_device(device)
    program = resolve_classes(path, overrides, data)
    return train(
        program, data=data, weights=weights, out=None if out is None else Path(out), quiet=quiet, device=device
    )


def train(
    program: Program,
    *,
    data: str | Path | None = None,
    weights: str | None = None,
    out: Path | None = None,
    quiet: bool = False,
    device: str = "auto",
) -> RunResult:
    """Trains a loaded program whose classes are known; see :func:`train_file`."""
    started = time.perf_counter()
    display = Display(quiet)
    check_out(out)
    place = pick_device(device)
    with display.fetching() as watcher:
        compiled = start_model(program, weights, watcher)
    with display.checking() as progress:
        setup = prepare(compiled, data, progress, place)
    random = frozen_at_random(program) if weights == "none" and program.weights else []
    display.warn([*program.warnings, *random, *length_findings(program, setup.horizon), *setup.report.warnings])
    folder = create_run(program.name, out)
    overrides = [*settings_seen_from(folder.root, program, data, weights), f"data.format={setup.index.format}"]
    write_program(folder, program, overrides, compiled.loaded, setup.report.digest, setup.class_weights)
    write_machine(folder, setup.device)
    display.start(_head(setup, folder))
    display.class_weights(setup.class_weights)
    for text in settle_threads(program.data.train.workers) if place.type == "cpu" else ():
        display.note(text)
    if compiled.loaded:
        display.weights(compiled.loaded, compiled.at_random())
    with RunLog(folder, program.classes) as log, display.running(), explained():
        best, last, why = fit(setup, folder, log, display, started)
    display.end(best, last, program.train.monitor, folder.best, why, report_at_end(folder, display))
    values = {**best.confusion.summary(), "loss": best.val_loss, "epoch": best.epoch}
    return RunResult(folder.root, last.epoch, values, time.perf_counter() - started)


def fit(
    setup: Setup, folder: RunFolder, log: RunLog, display: Display, started: float
) -> tuple[EpochRow, EpochRow, str]:
    """Trains until the last epoch or until the stopper ends it; gives the best and the last row, and why it ended."""
    train, horizon = setup.program.train, setup.horizon
    checkpoints = checkpoint_writer(setup, folder)
    state, clock = start_state(setup), Clock(horizon.epochs, started=started)
    try_writing(folder, checkpoints, state)
    progress = state.progress
    best: EpochRow | None = None
    row: EpochRow | None = None
    bitten = False
    try:
        while progress.epoch < horizon.epochs:
            trained = train_epoch(setup, state, display, clock)
            with state.averaged():
                confusion, val_loss = score(
                    setup.network, setup.val, setup.program.classes, setup.index.ignore, setup.criterion
                )
            row = EpochRow(
                progress.epoch + 1, progress.step, clock.seconds, trained.rate, trained.loss, val_loss, confusion,
                clock.speed, trained.norm, trained.clipped, clock.waiting,
            )  # fmt: skip
            progress.end_epoch(row.score(train.monitor))
            log.epoch(row)
            if checkpoints.epoch(state, progress.history[-1]) or best is None:
                best = row
            display.epoch(row, clock.seconds_left(progress.epoch), best is row)
            if row.clipped and not bitten:
                display.note(_bite(row, train.clip))
            bitten = bitten or row.clipped > 0
            if progress.epoch == 1:
                _advise(setup, display, clock)
            if progress.epoch == 2 and clock.waiting > MUCH_WAITING:
                display.note(_late_data(setup, clock.waiting))
            if isinstance(train.stop, EarlyStopping) and train.stop.stops(progress.history, horizon):
                return best, row, f"no better {train.monitor} for {train.stop.patience}: stopped early"
    except KeyboardInterrupt:
        if progress.step:
            checkpoints.save_last(state)
        display.interrupted(folder.last if progress.step else None)
        raise
    assert best is not None and row is not None
    return best, row, "finished"


def checkpoint_writer(setup: Setup, folder: RunFolder) -> CheckpointWriter:
    """What writes the checkpoints of a run."""
    train = setup.program.train
    keeper = train.keep if isinstance(train.keep, Checkpoints) else Checkpoints()
    size = str(setup.program.data.input_size)
    facts = {"classes": json.dumps(setup.program.classes), "monitor": train.monitor, MADE_FOR: size}
    return CheckpointWriter(folder, keeper, facts)


def start_state(setup: Setup) -> TrainState:
    """The state before the first step."""
    word = setup.program.train.ema
    average = WeightAverage(word, setup.model) if isinstance(word, EMA) else None
    return TrainState(setup.model, setup.optimizer, average, setup.arithmetic.scaler(), Progress())


class Trained(NamedTuple):
    """What an epoch of training gave: means over its steps of the loss and of the norm of the gradient, the share of
    them that were clipped, and the rate of the last."""

    loss: float
    norm: float
    clipped: float
    rate: float


def train_epoch(setup: Setup, state: TrainState, display: Display, clock: Clock) -> Trained:
    """One pass over the training images, from the step of the epoch that ``state`` has reached."""
    train, progress, rate = setup.program.train, state.progress, 0.0
    setup.network.train()
    clock.start_epoch(setup.train.waited)
    batches = setup.train.epoch(progress.epoch, first=progress.inside * train.accumulate)
    for group in groups(batches, train.accumulate):  # one optimizer step each
        rate = set_rates(setup.optimizer, train.schedule, progress.step, setup.horizon, progress.history)
        setup.optimizer.zero_grad(set_to_none=True)
        shares = setup.loss.shares([batch.target for batch in group])
        losses: list[Tensor] = []
        for number, (batch, share) in enumerate(
            zip(group, shares, strict=True), start=progress.inside * train.accumulate
        ):
            torch.manual_seed(noise_seed(train.seed, progress.epoch, number))
            images = batch.images.to(setup.device, non_blocking=True)  # (N, C, H, W) uint8
            target = batch.target.to(setup.device, non_blocking=True).long()  # (N, H, W)
            with setup.arithmetic.autocast():
                logits = setup.network(images)  # (N, classes, H, W)
            loss = setup.loss.part(logits.float(), target, share)
            state.scaler.scale(loss).backward()
            losses.append(loss.detach())
        value = make_step(setup, state, group, torch.stack(losses).sum(), rate)
        clock.step(sum(len(batch.images) for batch in group), setup.train.waited)
        left = clock.seconds_left(progress.epoch + progress.inside / setup.horizon.steps_per_epoch)
        display.step(progress.epoch + 1, progress.inside, value, rate, clock.speed, left)
    steps = max(progress.inside, 1)
    return Trained(progress.losses / steps, progress.norms / steps, progress.clipped / steps, rate)


def make_step(setup: Setup, state: TrainState, group: Sequence[Batch], loss: Tensor, rate: float) -> float:
    """Moves the weights by the gradients that lie in them, and gives the loss of the step.

    Raises SegError (`loss-not-finite`, `gradient-not-finite`); the weights are then still those before the step.
    """
    clip, progress = setup.program.train.clip, state.progress
    state.scaler.unscale_(state.optimizer)
    trained = [p for g in state.optimizer.param_groups for p in g["params"] if p.grad is not None]
    length = get_total_norm([p.grad for p in trained])
    # The one place in a step where the host waits for the device.
    value, norm = torch.stack([loss, length.to(loss)]).tolist()
    overflow = not math.isfinite(norm)
    progress.overflows = progress.overflows + 1 if overflow else 0
    if not math.isfinite(value) or progress.overflows > (MOST_OVERFLOWS if state.scaler.is_enabled() else 0):
        raise not_finite(setup, state, group, value, rate)
    clipped = clip is not None and not overflow and norm > clip
    if clip is not None and clipped:
        clip_grads_with_norm_(trained, clip, length)
    if not overflow:
        state.scaler.step(state.optimizer)
    state.scaler.update()
    if state.average is not None and not overflow:
        state.average.update()
    progress.end_step(value, 0.0 if overflow else norm, clipped)
    return value


def _bite(row: EpochRow, clip: float | None) -> str:
    """What is said the first time that a gradient was clipped."""
    share = f"{row.clipped:.0%} of the steps of epoch {row.epoch}"
    means = f"(mean length {row.grad_norm:.2g}); metrics.csv has both of every epoch"
    return f"the gradient was longer than `train.clip = {clip}` in {share} and cut to it\n      {means}"


def _advise(setup: Setup, display: Display, clock: Clock) -> None:
    if setup.device.type != "cpu":
        return
    if is_crowded(clock.cpu_seconds, clock.training_seconds, torch.get_num_threads()):
        display.note(advice(setup.program.data.train.workers))


def _late_data(setup: Setup, share: float) -> str:
    """What to do where loading is too slow, once the processes have started and the cache is filled."""
    workers = setup.program.data.train.workers
    return (
        f"{share:.0%} of the training is waiting for data; load with more processes (`data.train.workers` is "
        f"{workers}), keep more in memory (`data.cache`), or store smaller images"
    )


def _head(setup: Setup, folder: RunFolder) -> Head:
    parameters = list(setup.model.parameters())
    return Head(
        name=setup.program.name,
        parameters=sum(p.numel() for p in parameters),
        trained=sum(p.numel() for p in parameters if p.requires_grad),
        size=str(setup.program.data.input_size),
        train_images=len(setup.train.dataset),
        val_images=len(setup.val.dataset),
        classes=len(setup.program.classes),
        device=f"{setup.device}{'' if setup.arithmetic.format == 'fp32' else f', in {setup.arithmetic.format}'}",
        run=folder.root,
        epochs=setup.horizon.epochs,
        steps_per_epoch=setup.horizon.steps_per_epoch,
    )
