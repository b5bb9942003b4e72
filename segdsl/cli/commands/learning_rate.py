"""`show --lr`: a chart of the learning rate over a run, drawn without data or torch."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from segdsl.cli import streams
from segdsl.cli.result import Answer
from segdsl.diagnostics import fail
from segdsl.ir.program import Program
from segdsl.ir.values import Quantity
from segdsl.lang.lint.schedule_lints import length_findings
from segdsl.lang.program import load
from segdsl.words.optimizers import Group
from segdsl.words.schedules import Horizon, ReduceOnPlateau, scale_at, stretches

WIDTH, ROWS = 80, 11
"""Maximum columns of the chart, and rows of the curve."""
LABEL = 8
"""Columns of the labels left of the axis."""
LOOKED_AT, LISTED = 20_000, 1_000
"""Maximum steps at which the rate is evaluated for the chart, and listed by `--json`."""
USUAL_STEPS = 100
"""Steps per epoch where neither data nor options give a number."""
# Unicode numbers the dots of a braille cell down its columns, except for the fourth row, which was added later.
DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""The bits of the dots of a braille character, row by row."""
HANGING: Any = {"subsequent_indent": "  "}
BRAILLE, CYAN, PLAIN = 0x2800, "\x1b[36m", "\x1b[0m"


@dataclass(frozen=True, slots=True)
class Curve:
    """The learning rate of a program at the steps ``sample_steps`` of a run, with notes on its limits."""

    program: Program
    horizon: Horizon
    base: float
    steps: Sequence[int]
    notes: tuple[str, ...]

    def rate(self, step: int) -> float:
        """Return the rate at a step; `ReduceOnPlateau` counts as never triggered."""
        return self.base * scale_at(self.program.train.schedule, step, self.horizon)

    def epoch(self, step: int) -> float:
        """Return the number of epochs completed at a step."""
        return step / self.horizon.steps_per_epoch

    @property
    def groups(self) -> list[tuple[tuple[str, ...], float]]:
        """Parameter groups with their own rate: paths and peak rate."""
        groups: tuple[Group, ...] = getattr(self.program.train.optimizer, "groups", ())
        return [(group.paths, group.lr) for group in groups if group.lr is not None]


def shown_rates(file: str, overrides: Sequence[str], steps_per_epoch: int | None, images: int | None) -> Answer:
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
    horizon = Horizon(steps_per_epoch or batches or USUAL_STEPS, program.train.epochs)
    base: float = dict(program.train.optimizer)["lr"]
    curve = Curve(program, horizon, base, _evenly(horizon.total, LOOKED_AT), _notes(program, has_step_count, images))
    warnings = length_findings(program, horizon) if has_step_count else []
    sources = {name: source.text for name, source in program.sources.items()}
    text = drawn(curve, streams.can_print("⣿┤", sys.stdout), streams.wants_color(sys.stdout))
    return Answer(_as_json(file, curve), text, findings=(*program.warnings, *warnings), sources=sources)


def _evenly(total: int, most: int) -> Sequence[int]:
    """Return at most ``limit`` steps of a run, including the first and the last."""
    return range(total) if total <= most else [round(i * (total - 1) / (most - 1)) for i in range(most)]


def _notes(program: Program, known: bool, images: int | None) -> tuple[str, ...]:
    train, notes = program.train, list[str]()
    if any(isinstance(law, ReduceOnPlateau) for law in train.schedule):
        notes.append(f"`ReduceOnPlateau` depends on `{train.monitor}`: the chart assumes no reduction")
    if train.stop is not None:
        notes.append("`train.stop` may end the run earlier")
    values = [v for law in train.schedule for name in type(law).model_fields for v in _each(getattr(law, name))]
    if not known and any(isinstance(v, Quantity) and v.unit == "iters" for v in values):
        notes.append(f"assuming {USUAL_STEPS} steps per epoch; set the number with --images or --steps-per-epoch")
    if images is not None and program.data.train.sampler is not None:
        notes.append("with `data.train.sampler` an epoch may be longer than --images; use --steps-per-epoch instead")
    return tuple(notes)


def _each(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _as_json(file: str, curve: Curve) -> dict[str, Any]:
    horizon = curve.horizon
    return {
        "file": file,
        "lr": curve.base,
        "epochs": horizon.epochs,
        "steps_per_epoch": horizon.steps_per_epoch,
        "steps": horizon.total,
        "points": [
            {"step": step, "epoch": round(curve.epoch(step), 6), "lr": curve.rate(step)}
            for step in _evenly(horizon.total, LISTED)
        ],
        "schedule": [
            {"name": type(law).__name__, "start": start, "end": end}
            for law, start, end in stretches(curve.program.train.schedule, horizon)
        ],
        "groups": [{"paths": list(paths), "lr": lr} for paths, lr in curve.groups],
        "notes": list(curve.notes),
    }


def drawn(curve: Curve, unicode: bool, color: bool) -> str:
    """Draw the curve as text: title, chart with axes, one line per schedule phase and parameter group, and notes."""
    horizon = curve.horizon
    title = f"learning rate of {curve.program.name}: {_count(horizon.epochs, 'epoch')} of "
    title += _count(horizon.steps_per_epoch, "step")
    columns = WIDTH - LABEL - 2
    lines = _braille(curve, columns) if unicode else _ascii(curve, columns)
    labels = {0: _rate(_top(curve)), ROWS // 2: _rate(_top(curve) / 2), ROWS - 1: "0"}
    ticks = ("┤", "│") if unicode else ("+", "|")
    rows = [
        f"{labels.get(row, ''):>{LABEL}}{ticks[row not in labels]}{CYAN}{line.rstrip()}{PLAIN}"
        if color
        else f"{labels.get(row, ''):>{LABEL}}{ticks[row not in labels]}{line}".rstrip()
        for row, line in enumerate(lines)
    ]
    foot = " " * LABEL + ("└" + "─" * columns if unicode else "+" + "-" * columns)
    notes = [f"note: {note}" for note in curve.notes]
    below = [line for text in (*_laws(curve), *notes) for line in textwrap.wrap(text, WIDTH, **HANGING)]
    above = textwrap.wrap(title, WIDTH, **HANGING)
    return "\n".join([*above, "", *rows, foot, _epochs(horizon, columns), "", *below])


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _rate(rate: float) -> str:
    return f"{rate:.1e}" if rate else "0"


def _top(curve: Curve) -> float:
    """Return the highest rate, which is the upper end of the axis."""
    # A schedule may be 0 throughout; the base rate then keeps the axis from having no extent.
    return max(map(curve.rate, curve.steps)) or curve.base


def _epochs(horizon: Horizon, columns: int) -> str:
    """Draw the epoch labels below the axis, at both ends and in the middle."""
    middle, end = f"{horizon.epochs / 2:g}", f"{horizon.epochs} epochs"
    line = " " * LABEL + "0".ljust(columns // 2 - len(middle) // 2) + middle
    return line.ljust(LABEL + 1 + columns - len(end)) + end


def _heights(curve: Curve, columns: int, height: int) -> list[tuple[int, int]]:
    """Return the lowest and highest of ``levels`` that the curve reaches in each column, connected across columns."""
    top = _top(curve)
    places: list[list[int]] = [[] for _ in range(columns)]
    for step in curve.steps:
        index = min(step * columns // curve.horizon.total, columns - 1)
        places[index].append(round(curve.rate(step) / top * (height - 1)))
    found, last = list[tuple[int, int]](), places[0][0]
    for column in places:
        # A run of fewer steps than columns leaves columns empty: the rate stays until the next step.
        column = column or [last]
        # A jump is drawn as a vertical line from where the previous column ended.
        reach = [*column, last] if abs(column[0] - last) > 1 else column
        found.append((min(reach), max(reach)))
        last = column[-1]
    return found


def _braille(curve: Curve, columns: int) -> list[str]:
    """Draw the curve in braille characters of two by four dots."""
    cells = [[0] * columns for _ in range(ROWS)]
    for x, (low, high) in enumerate(_heights(curve, 2 * columns, 4 * ROWS)):
        for y in range(low, high + 1):
            row, dot = divmod(4 * ROWS - 1 - y, 4)
            cells[row][x // 2] |= DOTS[dot][x % 2]
    return ["".join(chr(BRAILLE + cell) if cell else " " for cell in row) for row in cells]


def _ascii(curve: Curve, columns: int) -> list[str]:
    """Draw the curve in asterisks, for outputs without Unicode."""
    heights = _heights(curve, columns, ROWS)
    return ["".join("*" if low <= y <= high else " " for low, high in heights) for y in range(ROWS - 1, -1, -1)]


def _laws(curve: Curve) -> list[str]:
    """Return one line per schedule phase (epochs, first and last rate) and one per parameter group."""
    lines: list[str] = []
    for law, start, end in stretches(curve.program.train.schedule, curve.horizon):
        first, last = _rate(curve.rate(start)), _rate(curve.rate(end - 1))
        rates = first if first == last else f"{first} to {last}"
        where = f"{curve.epoch(start):.4g} to {curve.epoch(end):.4g}"
        lines.append(f"{type(law).__name__:16} epochs {where:16} {rates}")
    for paths, rate in curve.groups:
        lines.append(f"{_rate(rate)} instead of {_rate(curve.base)} for: {', '.join(paths)}")
    return lines
