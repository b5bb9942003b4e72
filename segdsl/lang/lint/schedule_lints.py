"""Checks of learning-rate schedules and optimizer groups against the model and the length of the run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from segdsl.diagnostics import Diagnostic, Sink, Span
from segdsl.ir.families import Schedule
from segdsl.ir.parts import is_below
from segdsl.ir.program import Program
from segdsl.ir.values import Horizon, Quantity
from segdsl.lang.lint.program_lints import add_warning, collect_stateful_parts, find_setting_span, report_unknown_part
from segdsl.lang.settings.merge import Settings
from segdsl.syntax import tree
from segdsl.words.optimizers import Group
from segdsl.words.schedules import find_endless_schedule

SCHEDULE_PATH, GROUPS_PATH = "train.schedule", "train.optimizer.groups"


def lint_learning_rates(program: Program, sink: Sink, settings: Settings) -> None:
    """Check `train.schedule` and the optimizer's groups, and add the findings to ``sink``."""
    _lint_groups(program, sink, settings)
    span = find_setting_span(program, SCHEDULE_PATH)
    early = find_endless_schedule(program.train.schedule)
    if early is not None:
        name = type(early).__name__
        message, help = f"`{name}` never ends, so the schedule after it never starts", "remove the schedule after it"
        if "over" in type(early).model_fields:
            help = f"limit it with `{name}(over = …)`, or {help}"
        sink.add(Diagnostic("schedule-never-reached", message, help, span=span))
    for finding in _lint_lengths(program, span, _EpochMeasure(program.train.epochs)):
        sink.add(finding)
    for finding in _lint_early_stop(program, None):
        sink.add(finding)
    _lint_plateau(program, sink)


def find_length_issues(program: Program, horizon: Horizon) -> list[Diagnostic]:
    """Return the schedule warnings that need the length of the run in steps and are not in ``program.warnings``."""
    reported = {warning.slug for warning in program.warnings}
    found = [
        *_lint_lengths(program, find_setting_span(program, SCHEDULE_PATH), _StepMeasure(horizon)),
        *_lint_early_stop(program, horizon),
    ]
    return [finding for finding in found if finding.slug not in reported]


class _EpochMeasure(NamedTuple):
    """Measures lengths in epochs while the steps per epoch are unknown; lengths in iterations have no measure."""

    total: float
    unit: str = "epochs"
    unit_name: str = "epochs"

    def measure_length(self, length: Quantity) -> float | None:
        return length.value if length.unit == "epochs" else None


class _StepMeasure:
    """Measures lengths in steps, once the steps per epoch are known."""

    unit, unit_name = "iters", "steps"

    def __init__(self, horizon: Horizon) -> None:
        self.horizon, self.total = horizon, float(horizon.total_steps)

    def measure_length(self, length: Quantity) -> float | None:
        return float(self.horizon.convert_to_steps(length))


def _lint_lengths(program: Program, span: Span | None, measure: _EpochMeasure | _StepMeasure) -> Iterator[Diagnostic]:
    """Compare the lengths of the schedules in a chain with the length of the run."""
    total, end, unit, unknown = measure.total, 0.0, measure.unit_name, False
    laws = program.train.schedule
    for law in laws:
        yield from _lint_drops(law, end, span, measure)
        over = law.get_length()
        # A schedule without `over` takes the rest of the run, so it always ends with the run.
        if over is None:
            return
        length = measure.measure_length(over)
        if length is None:
            unknown = True
            continue
        end += length
        yield from _lint_end(law, end, length, span, measure)
    last = laws[-1] if laws else None
    if last is not None and last.ends_at_zero() and not unknown and end < total:
        rest = f"{total - end:.10g}"
        message = f"the learning rate reaches 0 after {end:.10g} {unit}, so the last {rest} have no effect"
        shorter = f", or write `epochs = {end:.10g}`" if unit == "epochs" else ""
        yield _make_warning("zero-rate-tail", message, f"remove `over`{shorter}", span)


def _lint_end(
    law: Schedule, end: float, length: float, span: Span | None, measure: _EpochMeasure | _StepMeasure
) -> Iterator[Diagnostic]:
    """Warn about a schedule that ends after the run."""
    if law.is_warmup and end >= measure.total:
        message = f"the warm-up takes {end:.10g} {measure.unit_name}, but the run has only {measure.total:.10g}"
        yield _make_warning("warmup-too-long", message, "shorten the warm-up, or train for more epochs", span)
    elif end > measure.total:
        place = f"{end:.10g} {measure.unit_name}"
        message = f"`{type(law).__name__}` ends after {place}, but the run has only {measure.total:.10g}"
        room = measure.total - end + length
        remedy = "remove `over`" + (f", or write `over = {room:.10g} {measure.unit}`" if room > 0 else "")
        yield _make_warning("schedule-horizon", message, remedy, span)


def _lint_drops(
    law: Schedule, start: float, span: Span | None, measure: _EpochMeasure | _StepMeasure
) -> Iterator[Diagnostic]:
    """Warn about the first drop of the rate that is not reached before the end of the run."""
    for length in law.list_drops():
        after = measure.measure_length(length)
        if after is not None and start + after >= measure.total:
            where = f"{start + after:.10g} {measure.unit_name}"
            message = f"`{type(law).__name__}` lowers the rate after {where}, but the run has only {measure.total:.10g}"
            yield _make_warning("schedule-horizon", message, "lower the rate earlier, or train for more epochs", span)
            return


def _lint_early_stop(program: Program, horizon: Horizon | None) -> Iterator[Diagnostic]:
    """Warn about a run that may end while the rate still rises; without ``horizon``, where both have the same unit."""
    stop, warmup = program.train.stop, find_warmup_length(program)
    start, patience = (None, None) if stop is None else (stop.get_start(), stop.get_patience())
    if start is None or patience is None or warmup is None:
        return
    span = find_setting_span(program, "train.stop")
    help = f"set `train.stop.after = {warmup}`, so that epochs count from the end of the warm-up on"
    if horizon is not None:
        end, rise = (
            horizon.convert_to_steps(start) + horizon.convert_to_steps(patience),
            horizon.convert_to_steps(warmup),
        )
        if end < rise:
            message = f"the run may end after {end:,} steps without improvement, within the warm-up of {rise:,}"
            yield _make_warning("stop-in-warmup", message, help, span)
    elif start.value and start.unit == warmup.unit and start.value < warmup.value:
        message = f"early stopping counts from {start} on, within the warm-up of {warmup}"
        yield _make_warning("stop-in-warmup", message, help, span)


def find_warmup_length(program: Program) -> Quantity | None:
    """Return how long the learning rate rises at the start of a run, or None if it does not."""
    laws = program.train.schedule
    return laws[0].get_length() if laws and laws[0].is_warmup else None


def _make_warning(slug: str, message: str, help: str, span: Span | None) -> Diagnostic:
    return Diagnostic(slug, message, help, span=span, severity="warning")


def _lint_plateau(program: Program, sink: Sink) -> None:
    # Early stopping with no more patience than the schedule ends the run before the schedule ever acts.
    waits = [length for law in program.train.schedule if (length := law.get_patience()) is not None]
    patience = program.train.stop.get_patience() if program.train.stop is not None else None
    if not waits or patience is None:
        return
    if patience.unit == waits[0].unit and patience.value <= waits[0].value:
        message = f"the run stops after {patience} without improvement, before the rate drops after {waits[0]}"
        help = "set `train.stop` to a longer patience than the schedule"
        add_warning(sink, "plateau-never-reached", message, help, find_setting_span(program, "train.stop"))


def _lint_groups(program: Program, sink: Sink, settings: Settings) -> None:
    """Check that each path of the optimizer's groups exists, is listed only once, and has parameters to train."""
    groups: tuple[Group, ...] = getattr(program.train.optimizer, "groups", ())
    if not groups:
        return
    paths = [path for group in groups for path in group.paths]
    places = _find_group_path_spans(settings)
    # Paths from a `let` or a comprehension have no place of their own; then all errors point at the groups.
    spans = places if len(places) == len(paths) else [find_setting_span(program, GROUPS_PATH)] * len(paths)
    known, owners = collect_stateful_parts(program), _find_owner_paths(program, paths)
    for number, (path, span) in enumerate(zip(paths, spans, strict=True)):
        if path not in known:
            report_unknown_part(path, known, sink, span)
        elif path in paths[:number]:
            message = f"`{path}` is listed twice in the optimizer's groups, so its learning rate is ambiguous"
            sink.add(Diagnostic("path-in-two-groups", message, "list it only once", span=span))
        elif path not in owners:
            why = _explain_idle_group(path, paths, program)
            message = f"the optimizer group for `{path}` has no parameters to train: {why}"
            add_warning(sink, "group-trains-nothing", message, "remove it from the group", span)


def _find_owner_paths(program: Program, paths: list[str]) -> set[str]:
    # A parameter belongs to the longest group path above it, as in the optimizer itself.
    frozen, found = program.train.freeze, set()
    for key, state in program.graph.collect_state().items():
        if state.kind == "trained" and not is_below(key, frozen):
            found.add(max((path for path in paths if is_below(key, [path])), key=len, default=""))
    return found


def _explain_idle_group(path: str, paths: list[str], program: Program) -> str:
    if is_below(path, program.train.freeze):
        return "it is frozen by `train.freeze`"
    if any(other != path and is_below(other, [path]) for other in paths):
        return "all of its parameters are in groups with longer paths, or frozen"
    return "it contains no trainable parameters"


def _find_group_path_spans(settings: Settings) -> list[Span]:
    """Return the places of the group paths in order, as far as lists and groups are literals."""
    setting = settings.values.get(("train", "optimizer"))
    if setting is None or not isinstance(setting.expr, tree.Call):
        return []
    names = {argument.name.name: argument.value for argument in setting.expr.args if argument.name}
    change = setting.changes.get("groups")
    written = change.expr if change else names.get("groups")
    found: list[Span] = []
    calls = written.items if isinstance(written, tree.ListExpr) else ()
    for group in (call for call in calls if isinstance(call, tree.Call)):
        for argument in group.args:
            is_paths = argument.name.name == "paths" if argument.name else argument is group.args[0]
            if is_paths and isinstance(argument.value, tree.ListExpr):
                found += [item.span for item in argument.value.items]
    return found
