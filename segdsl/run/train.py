"""The verb `train`: everything is checked and prepared before the first step, then the loop runs."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

import torch

from segdsl.data.pictures.palette import list_own_colors
from segdsl.diagnostics import SegError
from segdsl.ir.program import Program
from segdsl.lang.lint.program_lints import find_random_frozen_parts
from segdsl.lang.lint.schedule_lints import find_length_issues
from segdsl.lang.program import ParsedProgram, parse_program
from segdsl.lang.settings.overrides import Override, list_overrides
from segdsl.lower.compiled import CompileResult
from segdsl.run.console.display import Display
from segdsl.run.console.summary import summarize_run
from segdsl.run.engine.clock import Clock
from segdsl.run.engine.device import pick_device
from segdsl.run.engine.loop import Outcome, find_end_reason, train_until_end
from segdsl.run.engine.machine_faults import diagnose_machine_faults
from segdsl.run.engine.setup import Setup, compile_start_model, prepare_run
from segdsl.run.engine.state import RunProgress
from segdsl.run.engine.threads import limit_threads
from segdsl.run.folder.layout import (
    RunFolder,
    check_out,
    create_run,
    is_run_folder,
    is_unfilled_run_folder,
    not_writable_error,
    write_program,
)
from segdsl.run.folder.lock import lock_run_folder
from segdsl.run.folder.log import RunLog
from segdsl.run.folder.machine import write_machine
from segdsl.run.folder.recovery import restore_run
from segdsl.run.folder.resume import (
    ResumableRun,
    can_resume,
    find_resumable,
    format_resume_command,
    resolve_run_to_resume,
    update_program,
    write_resumption,
)
from segdsl.run.folder.write_probe import probe_writing
from segdsl.run.program_data import collect_weight_sources, move_into_run, resolve_classes
from segdsl.run.report.write import write_final_report
from segdsl.run.request import RunOptions, RunRequest
from segdsl.run.session import Session, build_checkpoint_writer, build_start_state
from segdsl.run.signals import Signals


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


@dataclass(slots=True)
class RunStart:
    """A run before its first step: what was asked for, the program with the classes of its data, and where it runs.

    ``out`` is the folder asked for; ``resumable`` is the run to resume; ``exist_ok`` means that the folder is there.
    """

    request: RunRequest
    parsed: ParsedProgram
    program: Program
    device: torch.device
    out: Path | None
    display: Display
    signals: Signals
    start_time: float
    exist_ok: bool = False
    resumable: ResumableRun | None = None


def train_file(path: str | Path, overrides: Iterable[Override] = (), **options: Unpack[RunOptions]) -> RunResult:
    """Train the program in a `.seg` file; see :class:`~segdsl.run.request.RunRequest` for the options.

    Classes that the program does not name are read from the dataset. Raises SegError before the first step if program,
    data, weights or output folder are at fault.
    """
    return train_request(RunRequest(path, tuple(list_overrides(overrides)), **options))


def train_request(request: RunRequest) -> RunResult:
    """Train what was asked for; see :func:`train_file`."""
    device = pick_device(request.device)  # a wrong name is reported before the dataset is read
    path, out = request.path, None if request.out is None else Path(request.out)
    if request.resume:
        path, out = resolve_run_to_resume(path, out)
    parsed = parse_program(path)
    program = resolve_classes(parsed, request.overrides, request.data)
    started = time.perf_counter()
    with ExitStack() as stack:
        signals = stack.enter_context(Signals())
        start = RunStart(request, parsed, program, device, out, Display(request.quiet), signals, started)
        stack.enter_context(diagnose_machine_faults())
        claim_run_folder(start, stack)
        compiled, setup = prepare_start(start)
        folder = create_run(program.name, out, start.exist_ok)
        if not start.exist_ok:
            stack.enter_context(lock_run_folder(folder))
        sources = collect_weight_sources(folder.root, program, request.weights)
        run_program = move_into_run(program, folder.root, request.data, setup.index.format, sources)
        crowded = limit_threads(program.data.train.workers) if device.type == "cpu" else []
        write_run_start(folder, setup, compiled, run_program, start.resumable)
        show_start(start.display, folder, setup, compiled, crowded)
        outcome = run_training(start, setup, folder)
        signals.raise_if_interrupted()
        report = write_final_report(folder, start.display, run_program)
        start.display.show_results(outcome, program.train.monitor, folder.best, report)
        return summarize_result(start, folder, outcome)


def claim_run_folder(start: RunStart, stack: ExitStack) -> None:
    """Check the folder asked for; lock it and find the run in it if that is to be resumed."""
    out = start.out
    if out is None or not start.request.resume or not (is_run_folder(out) or is_unfilled_run_folder(out)):
        check_out(out)
        return
    start.exist_ok, folder = True, RunFolder(out)
    stack.enter_context(lock_run_folder(folder))
    sources = collect_weight_sources(folder.root, start.program, start.request.weights)
    start.resumable = find_resumable(folder, start.program, start.parsed, sources)
    if start.resumable:
        start.signals.advice = f"resume it with `{format_resume_command(folder, start.device)}`"


def prepare_start(start: RunStart) -> tuple[CompileResult, Setup]:
    """Build the model, check the data, build the objects of the run, and print the warnings."""
    program, request, display, resumable = start.program, start.request, start.display, start.resumable
    with display.show_fetch_progress() as watcher:
        compiled = compile_start_model(program, "none" if resumable else request.weights, watcher)
    with display.show_check_progress() as progress:
        setup = prepare_run(compiled, request.data, progress, start.device)
    if resumable:
        resumable.check_same_data(program, setup.report.digest)
    starts_random = request.weights == "none" and program.weights and not resumable
    random = find_random_frozen_parts(program) if starts_random else []
    display.show_warnings(
        [*program.warnings, *random, *find_length_issues(program, setup.horizon), *setup.report.warnings]
    )
    return compiled, setup


def write_run_start(
    folder: RunFolder, setup: Setup, compiled: CompileResult, run_program: Program, resumable: ResumableRun | None
) -> None:
    """Write what a run is made from, before its first step. Raises SegError (`out-not-writable`)."""
    if resumable:
        update_program(resumable, run_program)
        return
    write_machine(folder, setup.device)
    try:
        facts = {"class_weights": setup.class_weights, "colors": list_own_colors(setup.index.labels)}
        write_program(folder, setup.program, run_program, compiled.load_reports, setup.report.digest, facts)
    except OSError as error:
        raise not_writable_error(folder.root) from error


def show_start(
    display: Display, folder: RunFolder, setup: Setup, compiled: CompileResult, notes: Iterable[str]
) -> None:
    """Print what a run is made from."""
    display.show_summary(summarize_run(setup, folder))
    display.show_class_weights(setup.class_weights)
    for text in notes:
        display.show_note(text)
    if compiled.load_reports:
        display.show_weights(compiled.load_reports, compiled.find_random_parts())


def run_training(start: RunStart, setup: Setup, folder: RunFolder) -> Outcome:
    """Train, resuming the run if there is one to resume; see :func:`~segdsl.run.engine.loop.train_until_end`.

    Errors come with a note on how to resume, if there is a state to resume from.
    """
    state, checkpoints = build_start_state(setup), build_checkpoint_writer(setup, folder)
    saved, display = start.resumable.state_file if start.resumable else None, start.display
    since = RunProgress(saved.epoch, saved.step) if saved else RunProgress()
    for loader in (setup.train_loader, setup.val_loader):
        loader.announce_delays(display.show_note)
    try:
        with RunLog(folder, setup.program.classes, since if start.exist_ok else None) as log, diagnose_machine_faults():
            probe_writing(folder, checkpoints, state)
            if start.resumable:
                restore_run(start.resumable.state_file, state, checkpoints)
                notes = start.resumable.collect_notes(checkpoints.facts, setup.device)
                display.show_resumption(state.progress.epoch, state.progress.step, notes)
                if start.resumable.changes or not find_end_reason(setup, state.progress):
                    write_resumption(start.resumable, setup)
            done = state.progress.epoch + state.progress.inside / setup.horizon.steps_per_epoch
            clock = Clock(setup.horizon.epochs, start.start_time, done, saved.seconds if saved else 0.0)
            checkpoints.clock = clock
            with display.show_live_line():
                outcome = train_until_end(Session(setup, state, checkpoints, log, display, clock, start.signals))
    except SegError as error:
        if can_resume(folder, error):
            command = format_resume_command(folder, setup.device)
            display.show_note(f"the last checkpoint is intact; to resume from it: {command}")
        raise
    with start.signals.defer_signals():
        checkpoints.finish_run(state)
    return outcome


def summarize_result(start: RunStart, folder: RunFolder, outcome: Outcome) -> RunResult:
    """Return the result of a run that has ended."""
    best = outcome.best
    scores = {
        **best.confusion.summarize_scores(),
        "loss": best.val_loss,
        "epoch": best.epoch,
        "monitored": best.get_value(start.program.train.monitor),
    }
    step = start.resumable.state_file.step if start.resumable else None
    return RunResult(folder.root, outcome.last.epoch, scores, time.perf_counter() - start.start_time, step)
