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
from segdsl.diagnostics import SegError, SignalInterrupt
from segdsl.ir.program import Program
from segdsl.ir.word import format_choice
from segdsl.lang.lint.program_lints import find_random_frozen_parts
from segdsl.lang.lint.schedule_lints import find_length_issues
from segdsl.lower.compiled import CompileResult
from segdsl.run.console.display import Display
from segdsl.run.console.notes import NOTABLE_WAITING_SHARE, format_clip_note, format_data_wait_note, note_crowding
from segdsl.run.console.summary import summarize_run
from segdsl.run.engine.clock import Clock
from segdsl.run.engine.device import pick_device
from segdsl.run.engine.ema import WeightAverage
from segdsl.run.engine.group_loss import group_batches
from segdsl.run.engine.machine_faults import diagnose_machine_faults
from segdsl.run.engine.nonfinite import diagnose_nonfinite
from segdsl.run.engine.optimizers import set_rates
from segdsl.run.engine.setup import Setup, compile_start_model, prepare_run
from segdsl.run.engine.state import RunProgress, TrainState, derive_noise_seed
from segdsl.run.engine.threads import limit_threads
from segdsl.run.engine.validate import score_model
from segdsl.run.folder.checkpoint import CheckpointWriter
from segdsl.run.folder.layout import (
    RunFolder,
    check_out,
    create_run,
    is_run_folder,
    is_unfilled_run_folder,
    not_writable_error,
    relocate_program,
    write_program,
)
from segdsl.run.folder.lock import lock_run_folder
from segdsl.run.folder.log import EpochRow, RunLog
from segdsl.run.folder.machine import write_machine
from segdsl.run.folder.recovery import restore_run
from segdsl.run.folder.resume import (
    ORIGIN_FACTS,
    ResumableRun,
    can_resume,
    find_resumable,
    format_report_command,
    format_resume_command,
    resolve_run_to_resume,
    update_program,
    write_resumption,
)
from segdsl.run.folder.write_probe import probe_writing
from segdsl.run.program_data import build_location_overrides, resolve_classes
from segdsl.run.report.write import write_final_report
from segdsl.run.signals import Signals
from segdsl.scores.confusion import find_background
from segdsl.version import __version__
from segdsl.weights.position_embeddings import INPUT_SIZE_KEY
from segdsl.words.checkpoint_policies import Checkpoints
from segdsl.words.weight_averaging import EMA

MAX_OVERFLOWS = 24
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
    resume_step: int | None = None


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
        path, out = resolve_run_to_resume(path, out)
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
        stack.enter_context(diagnose_machine_faults())
        resumable, exist_ok = None, out is not None and resume and (is_run_folder(out) or is_unfilled_run_folder(out))
        if exist_ok and out is not None:
            folder = RunFolder(out)
            stack.enter_context(lock_run_folder(folder))
            resumable = find_resumable(folder, program, build_location_overrides(folder.root, program, data, weights))
            signals.advice = f"resume it with `{format_resume_command(folder, place)}`" if resumable else signals.advice
        else:
            check_out(out)
        with display.show_fetch_progress() as watcher:
            compiled = compile_start_model(program, "none" if resumable else weights, watcher)
        with display.show_check_progress() as progress:
            setup = prepare_run(compiled, data, progress, place)
        if resumable:
            resumable.check_same_data(program, setup.report.digest)
        random = find_random_frozen_parts(program) if weights == "none" and program.weights and not resumable else []
        display.show_warnings(
            [*program.warnings, *random, *find_length_issues(program, setup.horizon), *setup.report.warnings]
        )
        folder = create_run(program.name, out, exist_ok)
        if not exist_ok:
            stack.enter_context(lock_run_folder(folder))
        overrides = [
            *build_location_overrides(folder.root, program, data, weights),
            f"data.format={format_choice(setup.index.format)}",
        ]
        crowded = limit_threads(program.data.train.workers) if place.type == "cpu" else []
        write_run_start(folder, setup, compiled, relocate_program(program, overrides), resumable)
        display.show_summary(summarize_run(setup, folder))
        display.show_class_weights(setup.class_weights)
        for text in crowded:
            display.show_note(text)
        if compiled.load_reports:
            display.show_weights(compiled.load_reports, compiled.find_random_parts())
        best, last, end_reason = run_training(setup, folder, display, started, resumable, exist_ok, signals)
        signals.raise_if_interrupted()
        display.show_results(
            best, last, program.train.monitor, folder.best, end_reason, write_final_report(folder, display)
        )
        monitored = best.get_value(program.train.monitor)
        values = {
            **best.confusion.summarize_scores(),
            "loss": best.val_loss,
            "epoch": best.epoch,
            "monitored": monitored,
        }
        step = resumable.state_file.step if resumable else None
        return RunResult(folder.root, last.epoch, values, time.perf_counter() - started, step)


def write_run_start(
    folder: RunFolder, setup: Setup, compiled: CompileResult, run_program: Program, resumable: ResumableRun | None
) -> None:
    """Write what a run is made from, before its first step. Raises SegError (`out-not-writable`)."""
    if resumable:
        update_program(resumable, run_program)
        return
    write_machine(folder, setup.device)
    try:
        write_program(
            folder, setup.program, run_program, compiled.load_reports, setup.report.digest, setup.class_weights
        )
    except OSError as error:
        raise not_writable_error(folder.root) from error


def run_training(
    setup: Setup,
    folder: RunFolder,
    display: Display,
    start_time: float,
    resumable: ResumableRun | None,
    exist_ok: bool,
    signals: Signals,
) -> tuple[EpochRow, EpochRow, str]:
    """Train, resuming from ``resumable`` if given; see :func:`train_until_end`.

    Errors come with a note on how to resume, if there is a state to resume from.
    """
    state, checkpoints = build_start_state(setup), build_checkpoint_writer(setup, folder)
    since = RunProgress(resumable.state_file.epoch, resumable.state_file.step) if resumable else RunProgress()
    try:
        with RunLog(folder, setup.program.classes, since if exist_ok else None) as log, diagnose_machine_faults():
            probe_writing(folder, checkpoints, state)
            if resumable:
                restore_run(resumable.state_file, state, checkpoints)
                display.show_resumption(
                    state.progress.epoch, state.progress.step, resumable.collect_notes(checkpoints.facts, setup.device)
                )
                if resumable.changes or not find_end_reason(setup, state.progress):
                    write_resumption(resumable, setup)
            done = state.progress.epoch + state.progress.inside / setup.horizon.steps_per_epoch
            clock = Clock(setup.horizon.epochs, start_time, done, resumable.state_file.seconds if resumable else 0.0)
            with display.show_live_line():
                result = train_until_end(setup, state, checkpoints, log, display, clock, signals)
    except SegError as error:
        if can_resume(folder, error):
            display.show_note(
                f"the last checkpoint is intact; to resume from it: {format_resume_command(folder, setup.device)}"
            )
        raise
    with signals.defer_signals():
        checkpoints.finish_run(state)
    return result


def train_until_end(
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
    with signals.defer_signals():

        def finish_step() -> None:
            if checkpoints.policy.is_due(progress.step, setup.horizon):
                checkpoints.save_state(state)
            signals.raise_if_interrupted()

        try:
            signals.raise_if_interrupted()
            while not (why := find_end_reason(setup, progress)):
                row = run_epoch(setup, state, display, clock, signals, finish_step)
                progress.end_epoch(row.compute_score(train.monitor))
                log.write_epoch(row)
                best = checkpoints.save_epoch(state, row)
                display.show_epoch(row, clock.estimate_seconds_left(progress.epoch), best)
                if row.clipped and not has_clip_note:
                    display.show_note(format_clip_note(row, train.clip))
                has_clip_note = has_clip_note or row.clipped > 0
                if progress.epoch == 1:
                    note_crowding(setup, display, clock)
                if progress.epoch == 2 and clock.waiting_share > NOTABLE_WAITING_SHARE:
                    display.show_note(format_data_wait_note(setup, clock.waiting_share))
        except (KeyboardInterrupt, SegError) as error:
            if not isinstance(error, KeyboardInterrupt) and not (signals.signal_number and is_worker_death(error)):
                raise
            if progress.step:
                checkpoints.save_last(state)
            resume_command = format_resume_command(folder, setup.device) if progress.step else ""
            display.show_interruption(folder.last if progress.step else None, resume_command)
            if not signals.signal_number:
                raise
            advice = f"resume it with `{resume_command}`" if resume_command else "start it again"
            raise SignalInterrupt(signals.signal_number, advice) from error
        signals.advice = f"the run is finished; write its report with `{format_report_command(folder)}`"
    return checkpoints.rows["best"], checkpoints.rows["last"], why


def is_worker_death(error: SegError) -> bool:
    """Return whether a data-loader worker was killed: a signal to a process group reaches the workers too."""
    return error.diagnostics[0].slug == "worker-died"


def find_end_reason(setup: Setup, progress: RunProgress) -> str:
    """Return why a run is over; empty if it is not."""
    stop = setup.program.train.stop
    if stop is not None and not progress.inside and stop.should_stop(progress.history, setup.horizon):
        return f"{stop.describe_stop(setup.program.train.monitor)}: stopped early"
    return "finished" if progress.epoch >= setup.horizon.epochs else ""


def run_epoch(
    setup: Setup, state: TrainState, display: Display, clock: Clock, signals: Signals, after_step: Callable[[], None]
) -> EpochRow:
    """Train for an epoch, or the rest of it, and score it."""
    trained = train_epoch(setup, state, display, clock, after_step)
    with state.use_average():
        confusion, val_loss = score_model(
            setup.network,
            signals.iterate_interruptibly(setup.val_loader),
            setup.program.classes,
            setup.index.ignore,
            setup.criterion,
        )
    return EpochRow(
        state.progress.epoch + 1,
        state.progress.step,
        clock.total_seconds,
        trained.lr,
        trained.loss,
        val_loss,
        confusion,
        clock.images_per_second,
        trained.grad_norm,
        trained.clip_share,
        clock.waiting_share,
        find_background(setup.program.classes, setup.program.data.background),
    )


def build_checkpoint_writer(setup: Setup, folder: RunFolder) -> CheckpointWriter:
    """Build the writer of a run's checkpoints."""
    train = setup.program.train
    keeper = train.keep if isinstance(train.keep, Checkpoints) else Checkpoints()
    facts = {
        "model": setup.program.graph.name,
        "classes": json.dumps(setup.program.classes),
        "monitor": train.monitor,
        INPUT_SIZE_KEY: str(setup.program.data.input_size),
        "data": setup.report.digest,
        **dict(zip(ORIGIN_FACTS, (__version__, torch.__version__, str(setup.device)), strict=True)),
    }
    return CheckpointWriter(folder, keeper, facts)


def build_start_state(setup: Setup) -> TrainState:
    """Build the state before the first step."""
    word = setup.program.train.ema
    average = WeightAverage(word, setup.model) if isinstance(word, EMA) else None
    return TrainState(setup.model, setup.optimizer, average, setup.precision.build_scaler(), RunProgress())


class EpochStats(NamedTuple):
    """Statistics of an epoch: mean loss and gradient norm of its steps, the share clipped, the last learning rate."""

    loss: float
    grad_norm: float
    clip_share: float
    lr: float


def train_epoch(
    setup: Setup, state: TrainState, display: Display, clock: Clock, after_step: Callable[[], None] = lambda: None
) -> EpochStats:
    """Train one pass over the training images, from the step of the epoch that ``state`` has reached."""
    train, progress = setup.program.train, state.progress
    # The rate of the step before: a resumed run may have made all steps of this epoch already.
    rate = set_rates(setup.optimizer, train.schedule, max(progress.step - 1, 0), setup.horizon, progress.history)
    setup.network.train()
    clock.start_epoch(setup.train_loader.wait_seconds)
    batches = setup.train_loader.iterate_epoch(progress.epoch, first_batch=progress.inside * train.accumulate)
    for group in group_batches(batches, train.accumulate):  # one optimizer step each
        rate = set_rates(setup.optimizer, train.schedule, progress.step, setup.horizon, progress.history)
        setup.optimizer.zero_grad(set_to_none=True)
        shares = setup.loss.compute_shares([batch.target for batch in group])
        losses: list[Tensor] = []
        for number, (batch, share) in enumerate(
            zip(group, shares, strict=True), start=progress.inside * train.accumulate
        ):
            # Each batch has a seed of its own: a resumed run draws the same random numbers as an uninterrupted one.
            torch.manual_seed(derive_noise_seed(train.seed, progress.epoch, number))
            images = batch.images.to(setup.device, non_blocking=True)  # (N, C, H, W) uint8
            target = batch.target.to(setup.device, non_blocking=True).long()  # (N, H, W)
            with setup.precision.autocast():
                logits = setup.network(images)  # (N, classes, H, W)
            loss = setup.loss.compute_part(logits.float(), target, share)
            state.scaler.scale(loss).backward()
            losses.append(loss.detach())
        value = make_step(setup, state, group, torch.stack(losses).sum(), rate)
        clock.record_step(sum(len(batch.images) for batch in group), setup.train_loader.wait_seconds)
        seconds_left = clock.estimate_seconds_left(progress.epoch + progress.inside / setup.horizon.steps_per_epoch)
        display.show_step(progress.epoch + 1, progress.inside, value, rate, clock.images_per_second, seconds_left)
        after_step()
    steps = max(progress.inside, 1)
    return EpochStats(progress.losses / steps, progress.norms / steps, progress.clipped / steps, rate)


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
    if not math.isfinite(value) or progress.overflows > (MAX_OVERFLOWS if state.scaler.is_enabled() else 0):
        raise diagnose_nonfinite(setup, state, group, value, rate)
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
