"""`show --lr`: the learning rate of a program over its run, drawn, without data or torch."""

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
"""Columns of the whole drawing at most, and lines of the curve."""
LABEL = 8
"""Columns of the rates beside the axis."""
LOOKED_AT, LISTED = 20_000, 1_000
"""Steps of a run at which the rate is worked out for the drawing at most, and those that `--json` lists."""
USUAL_STEPS = 100
"""Steps of an epoch where nobody says how many it has."""
DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""The bits of the dots of a braille character, line by line."""
HANGING: Any = {"subsequent_indent": "  "}
BRAILLE, CYAN, PLAIN = 0x2800, "\x1b[36m", "\x1b[0m"


@dataclass(frozen=True, slots=True)
class Curve:
    """The rate of a program's optimizer at ``steps`` of a run, and what is to be said of it."""

    program: Program
    horizon: Horizon
    base: float
    steps: Sequence[int]
    notes: tuple[str, ...]

    def rate(self, step: int) -> float:
        """The rate at a step, for a plateau as long as nothing was reduced."""
        return self.base * scale_at(self.program.train.schedule, step, self.horizon)

    def epoch(self, step: int) -> float:
        """The epochs that are over at a step."""
        return step / self.horizon.steps_per_epoch

    @property
    def groups(self) -> list[tuple[tuple[str, ...], float]]:
        """The groups of the optimizer with a rate of their own, at its full height."""
        groups: tuple[Group, ...] = getattr(self.program.train.optimizer, "groups", ())
        return [(group.paths, group.lr) for group in groups if group.lr is not None]


def shown_rates(file: str, overrides: Sequence[str], steps_per_epoch: int | None, images: int | None) -> Answer:
    """What `show --lr` answers. Raises SegError for a program that is at fault, or has no optimizer."""
    program = load(file, overrides)
    if program.train.optimizer is None:
        message, help = (
            "the program has no `train.optimizer`, and so no rate",
            "set `train.optimizer = AdamW(lr = 1e-3)`",
        )
        raise fail("train-incomplete", message, help, path=file)
    known = steps_per_epoch is not None or images is not None
    batches = None if images is None else -(-images // program.data.train.batch)
    if batches is not None:
        batches = -(-batches // program.train.accumulate)
    horizon = Horizon(steps_per_epoch or batches or USUAL_STEPS, program.train.epochs)
    base: float = dict(program.train.optimizer)["lr"]
    curve = Curve(program, horizon, base, _evenly(horizon.total, LOOKED_AT), _notes(program, known, images))
    doubtful = length_findings(program, horizon) if known else []
    sources = {name: source.text for name, source in program.sources.items()}
    text = drawn(curve, streams.can_print("⣿┤", sys.stdout), streams.wants_color(sys.stdout))
    return Answer(_as_json(file, curve), text, findings=(*program.warnings, *doubtful), sources=sources)


def _evenly(total: int, most: int) -> Sequence[int]:
    """At most ``most`` steps of a run, the first and the last among them."""
    return range(total) if total <= most else [round(i * (total - 1) / (most - 1)) for i in range(most)]


def _notes(program: Program, known: bool, images: int | None) -> tuple[str, ...]:
    train, notes = program.train, list[str]()
    if any(isinstance(law, ReduceOnPlateau) for law in train.schedule):
        notes.append(f"`ReduceOnPlateau` waits for `{train.monitor}`: drawn until the first reduction")
    if train.stop is not None:
        notes.append("`train.stop` may end the run before")
    values = [v for law in train.schedule for name in type(law).model_fields for v in _each(getattr(law, name))]
    if not known and any(isinstance(v, Quantity) and v.unit == "iters" for v in values):
        notes.append(f"{USUAL_STEPS} steps an epoch are assumed; --images or --steps-per-epoch says how many")
    if images is not None and program.data.train.sampler is not None:
        notes.append("`data.train.sampler` may make an epoch longer than its images; --steps-per-epoch says how long")
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
    """The curve as text: a title, the drawing with its axes, a line for each law and group, the notes."""
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
    """The rate at the upper end of the axis: the highest there is."""
    return max(map(curve.rate, curve.steps)) or curve.base


def _epochs(horizon: Horizon, columns: int) -> str:
    """The line below the axis: epochs at its ends and in the middle."""
    middle, end = f"{horizon.epochs / 2:g}", f"{horizon.epochs} epochs"
    line = " " * LABEL + "0".ljust(columns // 2 - len(middle) // 2) + middle
    return line.ljust(LABEL + 1 + columns - len(end)) + end


def _heights(curve: Curve, columns: int, height: int) -> list[tuple[int, int]]:
    """The lowest and highest of ``height`` places that the curve has in each column, without gaps between columns."""
    top = _top(curve)
    places: list[list[int]] = [[] for _ in range(columns)]
    for step in curve.steps:
        column = min(step * columns // curve.horizon.total, columns - 1)
        places[column].append(round(curve.rate(step) / top * (height - 1)))
    found, last = list[tuple[int, int]](), places[0][0]
    for here in places:
        here = here or [last]  # a run of fewer steps than columns: the rate stays until the next step
        leap = abs(here[0] - last) > 1
        found.append((min([*here, last] if leap else here), max([*here, last] if leap else here)))
        last = here[-1]
    return found


def _braille(curve: Curve, columns: int) -> list[str]:
    """The drawing in braille characters, two by four dots each."""
    cells = [[0] * columns for _ in range(ROWS)]
    for x, (low, high) in enumerate(_heights(curve, 2 * columns, 4 * ROWS)):
        for y in range(low, high + 1):
            row, dot = divmod(4 * ROWS - 1 - y, 4)
            cells[row][x // 2] |= DOTS[dot][x % 2]
    return ["".join(chr(BRAILLE + cell) if cell else " " for cell in row) for row in cells]


def _ascii(curve: Curve, columns: int) -> list[str]:
    """The drawing in stars, for an output that has nothing else."""
    heights = _heights(curve, columns, ROWS)
    return ["".join("*" if low <= y <= high else " " for low, high in heights) for y in range(ROWS - 1, -1, -1)]


def _laws(curve: Curve) -> list[str]:
    """A line for each law: its epochs, the first and the last rate; and one for each group."""
    lines: list[str] = []
    for law, start, end in stretches(curve.program.train.schedule, curve.horizon):
        first, last = _rate(curve.rate(start)), _rate(curve.rate(end - 1))
        rates = first if first == last else f"{first} to {last}"
        where = f"{curve.epoch(start):.4g} to {curve.epoch(end):.4g}"
        lines.append(f"{type(law).__name__:16} epochs {where:16} {rates}")
    for paths, rate in curve.groups:
        named = ", ".join(paths)
        lines.append(f"at {_rate(rate)} in place of {_rate(curve.base)}: {named}")
    return lines
