"""Training: everything is checked and prepared first, then one loop that reads from top to bottom."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from segdsl.diagnostics import SegError, fail
from segdsl.ir.program import Program
from segdsl.lang.lints import frozen_at_random
from segdsl.lang.rates import length_findings
from segdsl.run.checkpoint import CheckpointWriter, Progress
from segdsl.run.clock import Clock
from segdsl.run.display import Display, Head
from segdsl.run.evaluate import score
from segdsl.run.faults import explained
from segdsl.run.folder import RunFolder, check_out, create_run, write_program
from segdsl.run.log import EpochRow, RunLog
from segdsl.run.machine import write_machine
from segdsl.run.optimizers import set_rates
from segdsl.run.report.write import report_at_end
from segdsl.run.setup import Setup, prepare, start_model
from segdsl.run.sources import resolve_classes, settings_seen_from
from segdsl.run.threads import advice, is_crowded
from segdsl.weights.positions import MADE_FOR
from segdsl.words.keepers import Checkpoints
from segdsl.words.stoppers import EarlyStopping


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
) -> RunResult:
    """Trains the program in a `.seg` file; classes that it does not name are read from the data set.

    ``data`` is relative to the working directory, `data.root` to the program. Raises SegError before the first step
    when program, data, weights or output folder are at fault.
    """
    program = resolve_classes(path, overrides, data)
    return train(program, data=data, weights=weights, out=None if out is None else Path(out), quiet=quiet)


def train(
    program: Program,
    *,
    data: str | Path | None = None,
    weights: str | None = None,
    out: Path | None = None,
    quiet: bool = False,
) -> RunResult:
    """Trains a loaded program whose classes are known; see :func:`train_file`."""
    started = time.perf_counter()
    display = Display(quiet)
    check_out(out)
    with display.fetching() as watcher:
        compiled = start_model(program, weights, watcher)
    with display.checking() as progress:
        setup = prepare(compiled, data, progress)
    random = frozen_at_random(program) if weights == "none" and program.weights else []
    display.warn([*program.warnings, *random, *length_findings(program, setup.horizon), *setup.report.warnings])
    folder = create_run(program.name, out)
    overrides = [*settings_seen_from(folder.root, program, data, weights), f"data.format={setup.index.format}"]
    write_program(folder, program, overrides, compiled.loaded, setup.report.digest, setup.class_weights)
    write_machine(folder, setup.device)
    display.start(_head(setup, folder))
    display.class_weights(setup.class_weights)
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
    keeper = train.keep if isinstance(train.keep, Checkpoints) else Checkpoints()
    size = str(setup.program.data.input_size)
    facts = {"classes": json.dumps(setup.program.classes), "monitor": train.monitor, MADE_FOR: size}
    checkpoints = CheckpointWriter(folder, keeper, facts)
    progress, clock = Progress(), Clock(horizon.epochs, started=started)
    best: EpochRow | None = None
    row: EpochRow | None = None
    try:
        while progress.epoch < horizon.epochs:
            loss, rate = train_epoch(setup, progress, display, clock)
            confusion, val_loss = score(
                setup.network, setup.val, setup.program.classes, setup.index.ignore, setup.criterion
            )
            progress.epoch += 1
            row = EpochRow(progress.epoch, progress.step, clock.seconds, rate, loss, val_loss, confusion, clock.speed)
            progress.history.append(row.score(train.monitor))
            log.epoch(row)
            if checkpoints.epoch(setup.model, setup.optimizer, progress, progress.history[-1]) or best is None:
                best = row
            display.epoch(row, clock.seconds_left(progress.epoch), best is row)
            if progress.epoch == 1 and setup.device.type == "cpu":
                _advise(display, clock)
            if isinstance(train.stop, EarlyStopping) and train.stop.stops(progress.history, horizon):
                return best, row, f"no better {train.monitor} for {train.stop.patience}: stopped early"
    except KeyboardInterrupt:
        if progress.step:
            checkpoints.save_last(setup.model, setup.optimizer, progress)
        display.interrupted(folder.last if progress.step else None)
        raise
    assert best is not None and row is not None
    return best, row, "finished"


def train_epoch(setup: Setup, progress: Progress, display: Display, clock: Clock) -> tuple[float, float]:
    """One pass over the training images; the mean loss of a step, and the rate of the last one."""
    schedule = setup.program.train.schedule
    setup.network.train()
    total, rate, steps = 0.0, 0.0, 0
    clock.start_epoch()
    for steps, batch in enumerate(setup.train.epoch(progress.epoch), start=1):
        rate = set_rates(setup.optimizer, schedule, progress.step, setup.horizon, progress.history)
        images = batch.images.to(setup.device, non_blocking=True)  # (N, C, H, W) uint8
        target = batch.target.to(setup.device, non_blocking=True).long()  # (N, H, W)
        logits = setup.network(images)  # (N, classes, H, W)
        loss = setup.criterion(logits, target)
        setup.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        value = loss.item()
        if not math.isfinite(value):
            raise _not_finite(value, rate, setup, progress, steps)
        setup.optimizer.step()
        progress.step += 1
        total += value
        clock.step(len(images))
        left = clock.seconds_left(progress.epoch + steps / setup.horizon.steps_per_epoch)
        display.step(progress.epoch + 1, steps, value, rate, clock.speed, left)
    return total / max(steps, 1), rate


def _not_finite(value: float, rate: float, setup: Setup, progress: Progress, step: int) -> SegError:
    train, subset = setup.train, setup.train.dataset.subset
    keys = train.keys(progress.epoch)[step - 1]
    names = [subset.image(key.position).name for key in keys]
    shown = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
    return fail(
        "loss-not-finite",
        f"the loss is {value} at step {progress.step + 1} (epoch {progress.epoch + 1}), on the images {shown}",
        f"lower the learning rate (it is {rate:.1e}) or lengthen the warm-up, and look at these images and masks",
    )


def _advise(display: Display, clock: Clock) -> None:
    if is_crowded(clock.cpu_seconds, clock.training_seconds, torch.get_num_threads()):
        display.note(advice())


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
        device=str(setup.device),
        run=folder.root,
        epochs=setup.horizon.epochs,
        steps_per_epoch=setup.horizon.steps_per_epoch,
    )
