"""The training loop, from top to bottom: epochs, optimizer steps, validation, checkpoints."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, NoReturn

import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from segdsl.data.loading.loader import Batch
from segdsl.diagnostics import SegError, SignalInterrupt
from segdsl.lang.lint.schedule_lints import find_warmup_length
from segdsl.run.console.display import Display, StepFacts
from segdsl.run.console.notes import NOTABLE_WAITING_SHARE, format_clip_note, format_data_wait_note, note_crowding
from segdsl.run.engine.clock import Clock
from segdsl.run.engine.group_loss import group_batches
from segdsl.run.engine.nonfinite import diagnose_nonfinite
from segdsl.run.engine.optimizers import set_rates
from segdsl.run.engine.setup import Setup
from segdsl.run.engine.state import RunProgress, TrainState, derive_noise_seed
from segdsl.run.engine.validate import score_model
from segdsl.run.folder.log import EpochRow
from segdsl.run.folder.resume import format_report_command, format_resume_command
from segdsl.run.session import Session
from segdsl.scores.confusion import find_background

MAX_OVERFLOWS = 24
"""Consecutive steps that may overflow fp16; the loss scale starts at 65536 and is halved in each."""


class Outcome(NamedTuple):
    """How training ended: the log rows of the best and the last epoch, and why it ended."""

    best: EpochRow
    last: EpochRow
    end_reason: str


def train_until_end(session: Session) -> Outcome:
    """Train until the last epoch or until the stopper ends the run.

    A signal stops it after the step, with everything saved: raises SignalInterrupt.
    """
    setup, checkpoints, signals = session.setup, session.checkpoints, session.signals
    progress = session.state.progress

    def finish_step() -> None:
        if checkpoints.policy.is_due(progress.step, setup.horizon):
            checkpoints.save_state(session.state)
        signals.raise_if_interrupted()

    with signals.defer_signals():
        try:
            signals.raise_if_interrupted()
            while not (end_reason := find_end_reason(setup, progress)):
                row = run_epoch(session, finish_step)
                progress.end_epoch(row.compute_score(setup.program.train.monitor))
                session.log.write_epoch(row)
                is_best = checkpoints.save_epoch(session.state, row)
                session.display.show_epoch(row, session.clock.estimate_seconds_left(progress.epoch), is_best)
                show_notes(session, row)
        except (KeyboardInterrupt, SegError) as error:
            if isinstance(error, SegError) and not (signals.signal_number and is_worker_death(error)):
                raise
            end_interrupted(session, error)
        signals.advice = f"the run is finished; write its report with `{format_report_command(session.folder)}`"
    return Outcome(checkpoints.rows["best"], checkpoints.rows["last"], end_reason)


def show_notes(session: Session, row: EpochRow) -> None:
    """Print what an epoch that has ended tells about the run, once."""
    setup, display, clock = session.setup, session.display, session.clock
    if row.clipped:
        display.show_note_once("clipped", format_clip_note(row, setup.program.train.clip))
    if row.epoch == 1:
        note_crowding(setup, display, clock)
    if row.epoch == 2 and clock.waiting_share > NOTABLE_WAITING_SHARE:
        display.show_note(format_data_wait_note(setup, clock.waiting_share))


def end_interrupted(session: Session, cause: BaseException) -> NoReturn:
    """Save an interrupted run, print how to resume it, and raise SignalInterrupt, or ``cause`` without a signal."""
    has_started = session.state.progress.step > 0
    if has_started:
        session.checkpoints.save_last(session.state)
    command = format_resume_command(session.folder, session.setup.device) if has_started else ""
    session.display.show_interruption(session.folder.last if has_started else None, command)
    if not session.signals.signal_number:
        raise cause
    advice = f"resume it with `{command}`" if command else "start it again"
    raise SignalInterrupt(session.signals.signal_number, advice) from cause


def is_worker_death(error: SegError) -> bool:
    """Return whether a data-loader worker was killed: a signal to a process group reaches the workers too."""
    return error.diagnostics[0].slug == "worker-died"


def find_end_reason(setup: Setup, progress: RunProgress) -> str:
    """Return why a run is over; empty if it is not."""
    stop = setup.program.train.stop
    if stop is not None and not progress.inside and stop.should_stop(progress.history, setup.horizon):
        warmup = find_warmup_length(setup.program)
        is_rising = warmup is not None and progress.step < setup.horizon.convert_to_steps(warmup)
        hint = f", within the warm-up of {warmup}; a later `train.stop.after` lets it go on" if is_rising else ""
        return f"{stop.describe_stop(setup.program.train.monitor)}: stopped early{hint}"
    return "finished" if progress.epoch >= setup.horizon.epochs else ""


def run_epoch(session: Session, after_step: Callable[[], None]) -> EpochRow:
    """Train for an epoch, or the rest of it, and score it."""
    setup, state, clock = session.setup, session.state, session.clock
    trained = train_epoch(setup, state, session.display, clock, after_step)
    with state.use_average():
        confusion, val_loss = score_model(
            setup.network,
            session.signals.iterate_interruptibly(setup.val_loader),
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
        display.show_step(
            StepFacts(progress.epoch + 1, progress.inside, value, rate, clock.images_per_second, seconds_left)
        )
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
    if overflow:
        # In fp16 this is not an error yet: the scaler lowers the loss scale, and the step is skipped.
        state.scaler.update()
        progress.end_step(value, 0.0, clipped=False)
        return value
    clipped = clip is not None and norm > clip
    if clip is not None and clipped:
        clip_grads_with_norm_(trained, clip, length)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    if state.average is not None:
        state.average.update()
    progress.end_step(value, norm, clipped)
    return value
