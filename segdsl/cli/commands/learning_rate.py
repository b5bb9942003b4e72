"""`show --lr`: a chart of the learning rate over a run, drawn without data or torch."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from segdsl.cli import streams
from segdsl.cli.result import CommandResult
from segdsl.diagnostics import fail
from segdsl.ir.program import Program
from segdsl.ir.values import Quantity
from segdsl.lang.lint.schedule_lints import find_length_issues
from segdsl.lang.program import load
from segdsl.text.plural import format_count
from segdsl.words.optimizers import Group
from segdsl.words.schedules import Horizon, compute_rate_factor, list_phases

WIDTH, ROWS = 80, 11
"""Maximum columns of the chart, and rows of the curve."""
LABEL_WIDTH = 8
"""Columns of the labels left of the axis."""
DRAW_SAMPLES, JSON_SAMPLES = 20_000, 1_000
"""Maximum steps at which the rate is evaluated for the chart, and listed by `--json`."""
DEFAULT_STEPS_PER_EPOCH = 100
"""Steps per epoch where neither data nor options give a number."""
# Unicode numbers the dots of a braille cell down its columns, except for the fourth row, which was added later.
BRAILLE_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""The bits of the dots of a braille character, row by row."""
HANGING_INDENT: Any = {"subsequent_indent": "  "}
BRAILLE_BLANK, CYAN, RESET = 0x2800, "\x1b[36m", "\x1b[0m"


@dataclass(frozen=True, slots=True)
class RateCurve:
    """The learning rate of a program at the steps ``sample_steps`` of a run, with notes on its limits."""

    program: Program
    horizon: Horizon
    base_rate: float
    sample_steps: Sequence[int]
    notes: tuple[str, ...]

    def rate_at(self, step: int) -> float:
        """Return the rate at a step; `ReduceOnPlateau` counts as never triggered."""
        return self.base_rate * compute_rate_factor(self.program.train.schedule, step, self.horizon)

    def epoch_at(self, step: int) -> float:
        """Return the number of epochs completed at a step."""
        return step / self.horizon.steps_per_epoch

    @property
    def rate_groups(self) -> list[tuple[tuple[str, ...], float]]:
        """Parameter groups with their own rate: paths and peak rate."""
        groups: tuple[Group, ...] = getattr(self.program.train.optimizer, "groups", ())
        return [(group.paths, group.lr) for group in groups if group.lr is not None]


def show_learning_rate(
    file: str, overrides: Sequence[str], steps_per_epoch: int | None, images: int | None
) -> CommandResult:
    """Return the result of `show --lr`. Raises SegError for an invalid program or one without an optimizer."""
    program = load(file, overrides)
    if program.train.optimizer is None:
        message, help = (
            "the program sets no `train.optimizer`, so it has no learning rate",
            "set `train.optimizer = AdamW(lr = 1e-3)`",
        )
        raise fail("train-incomplete", message, help, path=file)
    has_step_count = steps_per_epoch is not None or images is not None
    batches = None if images is None else -(-images // program.data.train.batch)
    # The schedule counts optimizer steps: several batches are accumulated into one.
    if batches is not None:
        batches = -(-batches // program.train.accumulate)
    horizon = Horizon(steps_per_epoch or batches or DEFAULT_STEPS_PER_EPOCH, program.train.epochs)
    base: float = dict(program.train.optimizer)["lr"]
    curve = RateCurve(
        program,
        horizon,
        base,
        _sample_evenly(horizon.total_steps, DRAW_SAMPLES),
        _collect_notes(program, has_step_count, images),
    )
    warnings = find_length_issues(program, horizon) if has_step_count else []
    sources = {name: source.text for name, source in program.sources.items()}
    text = draw_curve(curve, streams.can_print("⣿┤", sys.stdout), streams.wants_color(sys.stdout))
    return CommandResult(_curve_to_dict(file, curve), text, findings=(*program.warnings, *warnings), sources=sources)


def _sample_evenly(total: int, limit: int) -> Sequence[int]:
    """Return at most ``limit`` steps of a run, including the first and the last."""
    return range(total) if total <= limit else [round(i * (total - 1) / (limit - 1)) for i in range(limit)]


def _collect_notes(program: Program, has_step_count: bool, images: int | None) -> tuple[str, ...]:
    train, notes = program.train, list[str]()
    for name in sorted({type(law).__name__ for law in train.schedule if law.follows_score}):
        notes.append(f"`{name}` depends on `{train.monitor}`: the chart assumes no reduction")
    if train.stop is not None:
        notes.append("`train.stop` may end the run earlier")
    values = [v for law in train.schedule for name in type(law).model_fields for v in _as_tuple(getattr(law, name))]
    if not has_step_count and any(isinstance(v, Quantity) and v.unit == "iters" for v in values):
        notes.append(
            f"assuming {DEFAULT_STEPS_PER_EPOCH} steps per epoch; set the number with --images or --steps-per-epoch"
        )
    if images is not None and program.data.train.sampler is not None:
        notes.append("with `data.train.sampler` an epoch may be longer than --images; use --steps-per-epoch instead")
    return tuple(notes)


def _as_tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _curve_to_dict(file: str, curve: RateCurve) -> dict[str, Any]:
    horizon = curve.horizon
    return {
        "file": file,
        "lr": curve.base_rate,
        "epochs": horizon.epochs,
        "steps_per_epoch": horizon.steps_per_epoch,
        "steps": horizon.total_steps,
        "points": [
            {"step": step, "epoch": round(curve.epoch_at(step), 6), "lr": curve.rate_at(step)}
            for step in _sample_evenly(horizon.total_steps, JSON_SAMPLES)
        ],
        "schedule": [
            {"name": type(law).__name__, "start": start, "end": end}
            for law, start, end in list_phases(curve.program.train.schedule, horizon)
        ],
        "groups": [{"paths": list(paths), "lr": lr} for paths, lr in curve.rate_groups],
        "notes": list(curve.notes),
    }


def draw_curve(curve: RateCurve, unicode: bool, color: bool) -> str:
    """Draw the curve as text: title, chart with axes, one line per schedule phase and parameter group, and notes."""
    horizon = curve.horizon
    title = f"learning rate of {curve.program.name}: {format_count(horizon.epochs, 'epoch')} of "
    title += format_count(horizon.steps_per_epoch, "step")
    columns = WIDTH - LABEL_WIDTH - 2
    lines = _draw_braille(curve, columns) if unicode else _draw_ascii(curve, columns)
    labels = {0: _format_rate(_find_top_rate(curve)), ROWS // 2: _format_rate(_find_top_rate(curve) / 2), ROWS - 1: "0"}
    ticks = ("┤", "│") if unicode else ("+", "|")
    rows = [
        f"{labels.get(row, ''):>{LABEL_WIDTH}}{ticks[row not in labels]}{CYAN}{line.rstrip()}{RESET}"
        if color
        else f"{labels.get(row, ''):>{LABEL_WIDTH}}{ticks[row not in labels]}{line}".rstrip()
        for row, line in enumerate(lines)
    ]
    foot = " " * LABEL_WIDTH + ("└" + "─" * columns if unicode else "+" + "-" * columns)
    notes = [f"note: {note}" for note in curve.notes]
    below = [
        line for text in (*_describe_schedule(curve), *notes) for line in textwrap.wrap(text, WIDTH, **HANGING_INDENT)
    ]
    above = textwrap.wrap(title, WIDTH, **HANGING_INDENT)
    return "\n".join([*above, "", *rows, foot, _draw_epoch_axis(horizon, columns), "", *below])


def _format_rate(rate: float) -> str:
    return f"{rate:.1e}" if rate else "0"


def _find_top_rate(curve: RateCurve) -> float:
    """Return the highest rate, which is the upper end of the axis."""
    # A schedule may be 0 throughout; the base rate then keeps the axis from having no extent.
    return max(map(curve.rate_at, curve.sample_steps)) or curve.base_rate


def _draw_epoch_axis(horizon: Horizon, columns: int) -> str:
    """Draw the epoch labels below the axis, at both ends and in the middle."""
    middle, end = f"{horizon.epochs / 2:g}", f"{horizon.epochs} epochs"
    line = " " * LABEL_WIDTH + "0".ljust(columns // 2 - len(middle) // 2) + middle
    return line.ljust(LABEL_WIDTH + 1 + columns - len(end)) + end


def _compute_column_extents(curve: RateCurve, columns: int, levels: int) -> list[tuple[int, int]]:
    """Return the lowest and highest of ``levels`` that the curve reaches in each column, connected across columns."""
    top = _find_top_rate(curve)
    places: list[list[int]] = [[] for _ in range(columns)]
    for step in curve.sample_steps:
        index = min(step * columns // curve.horizon.total_steps, columns - 1)
        places[index].append(round(curve.rate_at(step) / top * (levels - 1)))
    found, last = list[tuple[int, int]](), places[0][0]
    for column in places:
        # A run of fewer steps than columns leaves columns empty: the rate stays until the next step.
        column = column or [last]
        # A jump is drawn as a vertical line from where the previous column ended.
        reach = [*column, last] if abs(column[0] - last) > 1 else column
        found.append((min(reach), max(reach)))
        last = column[-1]
    return found


def _draw_braille(curve: RateCurve, columns: int) -> list[str]:
    """Draw the curve in braille characters of two by four dots."""
    cells = [[0] * columns for _ in range(ROWS)]
    for x, (low, high) in enumerate(_compute_column_extents(curve, 2 * columns, 4 * ROWS)):
        for y in range(low, high + 1):
            row, dot = divmod(4 * ROWS - 1 - y, 4)
            cells[row][x // 2] |= BRAILLE_DOTS[dot][x % 2]
    return ["".join(chr(BRAILLE_BLANK + cell) if cell else " " for cell in row) for row in cells]


def _draw_ascii(curve: RateCurve, columns: int) -> list[str]:
    """Draw the curve in asterisks, for outputs without Unicode."""
    heights = _compute_column_extents(curve, columns, ROWS)
    return ["".join("*" if low <= y <= high else " " for low, high in heights) for y in range(ROWS - 1, -1, -1)]


def _describe_schedule(curve: RateCurve) -> list[str]:
    """Return one line per schedule phase (epochs, first and last rate) and one per parameter group."""
    lines: list[str] = []
    for law, start, end in list_phases(curve.program.train.schedule, curve.horizon):
        first, last = _format_rate(curve.rate_at(start)), _format_rate(curve.rate_at(end - 1))
        rates = first if first == last else f"{first} to {last}"
        where = f"{curve.epoch_at(start):.4g} to {curve.epoch_at(end):.4g}"
        lines.append(f"{type(law).__name__:16} epochs {where:16} {rates}")
    for paths, rate in curve.rate_groups:
        lines.append(f"{_format_rate(rate)} instead of {_format_rate(curve.base_rate)} for: {', '.join(paths)}")
    return lines
