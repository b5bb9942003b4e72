"""Training: everything is checked and prepared first, then one loop that reads from top to bottom."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from segdsl.data.loading.loader import Batch
from segdsl.diagnostics import Interrupted, SegError
from segdsl.ir.program import Program
from segdsl.lang.lint.program_lints import frozen_at_random
from segdsl.lang.lint.schedule_lints import length_findings
from segdsl.lower.compiled import Compiled
from segdsl.run.console.display import Display
from segdsl.run.console.notes import MUCH_WAITING, advise, bite, late_data
from segdsl.run.console.summary import head_of
from segdsl.run.engine.clock import Clock
from segdsl.run.engine.device import pick_device
from segdsl.run.engine.ema import WeightAverage
from segdsl.run.engine.group_loss import groups
from segdsl.run.engine.machine_faults import explained
from segdsl.run.engine.nonfinite import not_finite
from segdsl.run.engine.optimizers import set_rates
from segdsl.run.engine.setup import Setup, prepare, start_model
from segdsl.run.engine.state import Progress, TrainState, noise_seed
from segdsl.run.engine.threads import settle_threads
from segdsl.run.engine.validate import score
from segdsl.run.folder.checkpoint import CheckpointWriter
from segdsl.run.folder.layout import (
    RunFolder,
    check_out,
    create_run,
    is_bare,
    is_begun,
    not_writable,
    stated_program,
    write_program,
)
from segdsl.run.folder.lock import occupied
from segdsl.run.folder.log import EpochRow, RunLog
from segdsl.run.folder.machine import write_machine
from segdsl.run.folder.recovery import restore
from segdsl.run.folder.resume import (
    MADE_BY,
    LeftRun,
    can_go_on,
    command,
    left_run,
    named_run,
    report_command,
    write_again,
    write_resumption,
)
from segdsl.run.folder.write_probe import try_writing
from segdsl.run.program_data import resolve_classes, settings_seen_from
from segdsl.run.report.write import report_at_end
from segdsl.run.signals import Signals
from segdsl.scores.confusion import background_of
from segdsl.version import __version__
from segdsl.weights.position_embeddings import MADE_FOR
from segdsl.words.checkpoint_policies import Checkpoints
from segdsl.words.stoppers import EarlyStopping
from segdsl.words.weight_averaging import EMA

MOST_OVERFLOWS = 24
"""Steps in a row that fp16 may be too narrow for, while the factor of the loss, halved in each, falls from 65536."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """A finished run: its folder, the epochs it took, the scores of the best one, and the wall time; ``resumed`` is the
    step that it went on from, None where it was not left."""

    run: Path
    epochs: int
    best: dict[str, float]
    seconds: float
    resumed: int | None = None


def train_file(
    path: str | Path,
    overrides: Iterable[str] = (),
    data: str | Path | None = None,
    weights: str | None = None,
    out: str | Path | None = None,
    quiet: bool = False,
    device: str = "auto",
    resume: bool = False,
) -> RunResult:
    """Trains the program in a `.seg` file; classes that it does not name are read from the data set.

    ``data`` is relative to the working directory, `data.root` to the program; ``device`` is `cpu`, `cuda`, `cuda:1`,
    `xpu`, `mps` or `auto`. With ``resume`` the run in ``out`` goes on; ``path`` may then be a run folder itself. Raises
    SegError before the first step when program, data, weights or output folder are at fault.
    """
    pick_device(device)
    out = None if out is None else Path(out)
    if resume:
        path, out = named_run(path, out)
    program = resolve_classes(path, overrides, data)
    return train(program, data=data, weights=weights, out=out, quiet=quiet, device=device, resume=resume)


def train(
    program: Program,
    *,
    data: str | Path | None = None,
    weights: str | None = None,
    out: Path | None = None,
    quiet: bool = False,
    device: str = "auto",
    resume: bool = False,
) -> RunResult:
    """Trains a loaded program whose classes are known; see :func:`train_file`."""
    started = time.perf_counter()
    display = Display(quiet)
    place = pick_device(device)
    with ExitStack() as stack:
        signals = stack.enter_context(Signals())
        stack.enter_context(explained())
        left, again = None, out is not None and resume and (is_begun(out) or is_bare(out))
        if again and out is not None:
            folder = RunFolder(out)
            stack.enter_context(occupied(folder))
            left = left_run(folder, program, settings_seen_from(folder.root, program, data, weights))
            signals.help = f"go on with `{command(folder, place)}`" if left else signals.help
        else:
            check_out(out)
        with display.fetching() as watcher:
            compiled = start_model(program, "none" if left else weights, watcher)
        with display.checking() as progress:
            setup = prepare(compiled, data, progress, place)
        if left:
            left.require_data(program, setup.report.digest)
        random = frozen_at_random(program) if weights == "none" and program.weights and not left else []
        display.warn([*program.warnings, *random, *length_findings(program, setup.horizon), *setup.report.warnings])
        folder = create_run(program.name, out, again)
        if not again:
            stack.enter_context(occupied(folder))
        overrides = [*settings_seen_from(folder.root, program, data, weights), f"data.format={setup.index.format}"]
        crowded = settle_threads(program.data.train.workers) if place.type == "cpu" else []
        write_begin(folder, setup, compiled, stated_program(program, overrides), left)
        display.start(head_of(setup, folder))
        display.class_weights(setup.class_weights)
        for text in crowded:
            display.note(text)
        if compiled.loaded:
            display.weights(compiled.loaded, compiled.at_random())
        best, last, why = run_training(setup, folder, display, started, left, again, signals)
        signals.check()
        display.end(best, last, program.train.monitor, folder.best, why, report_at_end(folder, display))
        monitored = best.monitored(program.train.monitor)
        values = {**best.confusion.summary(), "loss": best.val_loss, "epoch": best.epoch, "monitored": monitored}
        step = left.found.step if left else None
        return RunResult(folder.root, last.epoch, values, time.perf_counter() - started, step)


def write_begin(folder: RunFolder, setup: Setup, compiled: Compiled, stated: Program, left: LeftRun | None) -> None:
    """Writes what a run is made of, before its first step. Raises SegError (`out-not-writable`)."""
    if left:
        write_again(left, stated)
        return
    write_machine(folder, setup.device)
    try:
        write_program(folder, setup.program, stated, compiled.loaded, setup.report.digest, setup.class_weights)
    except OSError as error:
        raise not_writable(folder.root) from error


def run_training(
    setup: Setup,
    folder: RunFolder,
    display: Display,
    started: float,
    left: LeftRun | None,
    again: bool,
    signals: Signals,
) -> tuple[EpochRow, EpochRow, str]:
    """Trains, from where the run was ``left``, or in a folder that was begun ``again``; see :func:`fit`.

    What ends it and is no signal is said with the command to go on, where there is something to go on from.
    """
    state, checkpoints = start_state(setup), checkpoint_writer(setup, folder)
    since = Progress(left.found.epoch, left.found.step) if left else Progress()
    try:
        with RunLog(folder, setup.program.classes, since if again else None) as log, explained():
            try_writing(folder, checkpoints, state)
            if left:
                restore(left.found, state, checkpoints)
                display.resumed(state.progress.epoch, state.progress.step, left.notes(checkpoints.facts, setup.device))
                if left.changes or not ended(setup, state.progress):
                    write_resumption(left, setup)
            done = state.progress.epoch + state.progress.inside / setup.horizon.steps_per_epoch
            clock = Clock(setup.horizon.epochs, started, done, left.found.seconds if left else 0.0)
            with display.running():
                result = fit(setup, state, checkpoints, log, display, clock, signals)
    except SegError as error:
        if can_go_on(folder, error):
            display.note(f"what was saved last is whole; to go on from there: {command(folder, setup.device)}")
        raise
    with signals.waiting():
        checkpoints.finish(state)
    return result


def fit(
    setup: Setup,
    state: TrainState,
    checkpoints: CheckpointWriter,
    log: RunLog,
    display: Display,
    clock: Clock,
    signals: Signals,
) -> tuple[EpochRow, EpochRow, str]:
    """Trains until the last epoch or until the stopper ends it; gives the best and the last row, and why it ended.

    A signal ends it after the step, with all saved: raises Interrupted.
    """
    train, progress, folder = setup.program.train, state.progress, checkpoints.folder
    checkpoints.clock = clock
    bitten = False
    with signals.waiting():

        def after_step() -> None:
            if checkpoints.rule.is_due(progress.step, setup.horizon):
                checkpoints.save_state(state)
            signals.check()

        try:
            signals.check()
            while not (why := ended(setup, progress)):
                row = run_epoch(setup, state, display, clock, signals, after_step)
                progress.end_epoch(row.score(train.monitor))
                log.epoch(row)
                best = checkpoints.epoch(state, row)
                display.epoch(row, clock.seconds_left(progress.epoch), best)
                if row.clipped and not bitten:
                    display.note(bite(row, train.clip))
                bitten = bitten or row.clipped > 0
                if progress.epoch == 1:
                    advise(setup, display, clock)
                if progress.epoch == 2 and clock.waiting > MUCH_WAITING:
                    display.note(late_data(setup, clock.waiting))
        except (KeyboardInterrupt, SegError) as error:
            if not isinstance(error, KeyboardInterrupt) and not (signals.asked and is_death(error)):
                raise
            if progress.step:
                checkpoints.save_last(state)
            how = command(folder, setup.device) if progress.step else ""
            display.interrupted(folder.last if progress.step else None, how)
            if not signals.asked:
                raise
            raise Interrupted(signals.asked, f"go on with `{how}`" if how else "start it again") from error
        signals.help = f"the run is finished; `{report_command(folder)}` writes its report"
    return checkpoints.rows["best"], checkpoints.rows["last"], why


def is_death(error: SegError) -> bool:
    """Whether a loading process was ended: a signal to all processes of a run reaches those, too."""
    return error.diagnostics[0].slug == "worker-died"


def ended(setup: Setup, progress: Progress) -> str:
    """Why a run is over, empty for one that is not."""
    stop = setup.program.train.stop
    if isinstance(stop, EarlyStopping) and not progress.inside and stop.stops(progress.history, setup.horizon):
        return f"no better {setup.program.train.monitor} for {stop.patience}: stopped early"
    return "finished" if progress.epoch >= setup.horizon.epochs else ""


def run_epoch(
    setup: Setup, state: TrainState, display: Display, clock: Clock, signals: Signals, after_step: Callable[[], None]
) -> EpochRow:
    """Trains for an epoch, or what is left of it, and scores it."""
    trained = train_epoch(setup, state, display, clock, after_step)
    with state.averaged():
        confusion, val_loss = score(
            setup.network, signals.watched(setup.val), setup.program.classes, setup.index.ignore, setup.criterion
        )
    return EpochRow(
        state.progress.epoch + 1, state.progress.step, clock.seconds, trained.rate, trained.loss, val_loss, confusion,
        clock.speed, trained.norm, trained.clipped, clock.waiting,
        background_of(setup.program.classes, setup.program.data.background),
    )  # fmt: skip


def checkpoint_writer(setup: Setup, folder: RunFolder) -> CheckpointWriter:
    """What writes the checkpoints of a run."""
    train = setup.program.train
    keeper = train.keep if isinstance(train.keep, Checkpoints) else Checkpoints()
    facts = {
        "model": setup.program.graph.name,
        "classes": json.dumps(setup.program.classes),
        "monitor": train.monitor,
        MADE_FOR: str(setup.program.data.input_size),
        "data": setup.report.digest,
        **dict(zip(MADE_BY, (__version__, torch.__version__, str(setup.device)), strict=True)),
    }
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


def train_epoch(
    setup: Setup, state: TrainState, display: Display, clock: Clock, after_step: Callable[[], None] = lambda: None
) -> Trained:
    """One pass over the training images, from the step of the epoch that ``state`` has reached."""
    train, progress = setup.program.train, state.progress
    # That of the step before, for an epoch whose steps were all made before the run was left.
    rate = set_rates(setup.optimizer, train.schedule, max(progress.step - 1, 0), setup.horizon, progress.history)
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
        after_step()
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
