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
"""Consecutive steps that may overflow fp16; the loss scale starts at 65536 and is halved in each."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """A finished run: its folder, its number of epochs, the scores of the best one, and the wall time.

    ``resume_step`` is the step that it was resumed from, None if it was not.
    """

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
    """Train the program in a `.seg` file; classes that it does not name are read from the dataset.

    ``data`` is relative to the working directory, `data.root` to the program; ``device`` is `cpu`, `cuda`, `cuda:1`,
    `xpu`, `mps` or `auto`. With ``resume`` the run in ``out`` is resumed; ``path`` may then be a run folder itself.
    Raises SegError before the first step if program, data, weights or output folder are at fault.
    """
    pick_device(device)  # a wrong name is reported before the dataset is read
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
    """Train a loaded program whose classes are known; see :func:`train_file`."""
    started = time.perf_counter()
    display = Display(quiet)
    place = pick_device(device)
    with ExitStack() as stack:
        signals = stack.enter_context(Signals())
        stack.enter_context(explained())
        resumable, exist_ok = None, out is not None and resume and (is_begun(out) or is_bare(out))
        if exist_ok and out is not None:
            folder = RunFolder(out)
            stack.enter_context(occupied(folder))
            resumable = left_run(folder, program, settings_seen_from(folder.root, program, data, weights))
            signals.help = f"resume it with `{command(folder, place)}`" if resumable else signals.help
        else:
            check_out(out)
        with display.fetching() as watcher:
            compiled = start_model(program, "none" if resumable else weights, watcher)
        with display.checking() as progress:
            setup = prepare(compiled, data, progress, place)
        if resumable:
            resumable.require_data(program, setup.report.digest)
        random = frozen_at_random(program) if weights == "none" and program.weights and not resumable else []
        display.warn([*program.warnings, *random, *length_findings(program, setup.horizon), *setup.report.warnings])
        folder = create_run(program.name, out, exist_ok)
        if not exist_ok:
            stack.enter_context(occupied(folder))
        overrides = [*settings_seen_from(folder.root, program, data, weights), f"data.format={setup.index.format}"]
        crowded = settle_threads(program.data.train.workers) if place.type == "cpu" else []
        write_begin(folder, setup, compiled, stated_program(program, overrides), resumable)
        display.start(head_of(setup, folder))
        display.class_weights(setup.class_weights)
        for text in crowded:
            display.note(text)
        if compiled.loaded:
            display.weights(compiled.loaded, compiled.at_random())
        best, last, end_reason = run_training(setup, folder, display, started, resumable, exist_ok, signals)
        signals.check()
        display.end(best, last, program.train.monitor, folder.best, end_reason, report_at_end(folder, display))
        monitored = best.monitored(program.train.monitor)
        values = {**best.confusion.summary(), "loss": best.val_loss, "epoch": best.epoch, "monitored": monitored}
        step = resumable.found.step if resumable else None
        return RunResult(folder.root, last.epoch, values, time.perf_counter() - started, step)


def write_begin(folder: RunFolder, setup: Setup, compiled: Compiled, stated: Program, left: LeftRun | None) -> None:
    """Write what a run is made from, before its first step. Raises SegError (`out-not-writable`)."""
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
    """Train, resuming from ``resumable`` if given; see :func:`train_until_end`.

    Errors come with a note on how to resume, if there is a state to resume from.
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
            display.note(f"the last checkpoint is intact; to resume from it: {command(folder, setup.device)}")
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
    """Train until the last epoch or until the stopper ends the run. Return the best and the last row, and why it ended.

    A signal stops it after the step, with everything saved: raises Interrupted.
    """
    train, progress, folder = setup.program.train, state.progress, checkpoints.folder
    checkpoints.clock = clock
    has_clip_note = False
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
                if row.clipped and not has_clip_note:
                    display.note(bite(row, train.clip))
                has_clip_note = has_clip_note or row.clipped > 0
                if progress.epoch == 1:
                    advise(setup, display, clock)
                if progress.epoch == 2 and clock.waiting > MUCH_WAITING:
                    display.note(late_data(setup, clock.waiting))
        except (KeyboardInterrupt, SegError) as error:
            if not isinstance(error, KeyboardInterrupt) and not (signals.asked and is_death(error)):
                raise
            if progress.step:
                checkpoints.save_last(state)
            resume_command = command(folder, setup.device) if progress.step else ""
            display.interrupted(folder.last if progress.step else None, resume_command)
            if not signals.asked:
                raise
            advice = f"resume it with `{resume_command}`" if resume_command else "start it again"
            raise Interrupted(signals.asked, advice) from error
        signals.help = f"the run is finished; write its report with `{report_command(folder)}`"
    return checkpoints.rows["best"], checkpoints.rows["last"], why


def is_death(error: SegError) -> bool:
    """Return whether a data-loader worker was killed: a signal to a process group reaches the workers too."""
    return error.diagnostics[0].slug == "worker-died"


def ended(setup: Setup, progress: Progress) -> str:
    """Return why a run is over; empty if it is not."""
    stop = setup.program.train.stop
    if isinstance(stop, EarlyStopping) and not progress.inside and stop.stops(progress.history, setup.horizon):
        return f"{setup.program.train.monitor} did not improve for {stop.patience}: stopped early"
    return "finished" if progress.epoch >= setup.horizon.epochs else ""


def run_epoch(
    setup: Setup, state: TrainState, display: Display, clock: Clock, signals: Signals, after_step: Callable[[], None]
) -> EpochRow:
    """Train for an epoch, or the rest of it, and score it."""
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
    """Build the writer of a run's checkpoints."""
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
    """Build the state before the first step."""
    word = setup.program.train.ema
    average = WeightAverage(word, setup.model) if isinstance(word, EMA) else None
    return TrainState(setup.model, setup.optimizer, average, setup.arithmetic.scaler(), Progress())


class Trained(NamedTuple):
    """Statistics of an epoch: mean loss and gradient norm of its steps, the share clipped, the last learning rate."""

    loss: float
    norm: float
    clipped: float
    rate: float


def train_epoch(
    setup: Setup, state: TrainState, display: Display, clock: Clock, after_step: Callable[[], None] = lambda: None
) -> Trained:
    """Train one pass over the training images, from the step of the epoch that ``state`` has reached."""
    train, progress = setup.program.train, state.progress
    # The rate of the step before: a resumed run may have made all steps of this epoch already.
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
            # Each batch has a seed of its own: a resumed run draws the same random numbers as an uninterrupted one.
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
        seconds_left = clock.seconds_left(progress.epoch + progress.inside / setup.horizon.steps_per_epoch)
        display.step(progress.epoch + 1, progress.inside, value, rate, clock.speed, seconds_left)
        after_step()
    steps = max(progress.inside, 1)
    return Trained(progress.losses / steps, progress.norms / steps, progress.clipped / steps, rate)


def make_step(setup: Setup, state: TrainState, group: Sequence[Batch], loss: Tensor, rate: float) -> float:
    """Update the weights from their gradients. Return the loss of the step.

    Raises SegError (`loss-not-finite`, `gradient-not-finite`) and leaves the weights as they were before the step.
    """
    clip, progress = setup.program.train.clip, state.progress
    state.scaler.unscale_(state.optimizer)
    trained = [p for g in state.optimizer.param_groups for p in g["params"] if p.grad is not None]
    length = get_total_norm([p.grad for p in trained])
    # The only place in a step where the host waits for the device: both numbers in one transfer.
    value, norm = torch.stack([loss, length.to(loss)]).tolist()
    overflow = not math.isfinite(norm)
    progress.overflows = progress.overflows + 1 if overflow else 0
    if not math.isfinite(value) or progress.overflows > (MOST_OVERFLOWS if state.scaler.is_enabled() else 0):
        raise not_finite(setup, state, group, value, rate)
    clipped = clip is not None and not overflow and norm > clip
    if clip is not None and clipped:
        clip_grads_with_norm_(trained, clip, length)
    # An overflow in fp16 is not an error yet: the scaler lowers the loss scale, and the step is skipped.
    if not overflow:
        state.scaler.step(state.optimizer)
    state.scaler.update()
    if state.average is not None and not overflow:
        state.average.update()
    progress.end_step(value, 0.0 if overflow else norm, clipped)
    return value
