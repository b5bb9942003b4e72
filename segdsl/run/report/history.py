"""The epochs of a run, read from its log."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from segdsl.ir.program import Program
from segdsl.run.folder.log import read_lines
from segdsl.words.schedules import Horizon
from segdsl.words.stoppers import EarlyStopping

BEYOND, MOST_EPOCHS = 1e39, 1_000_000_000
"""What no single-precision number reaches, and no run."""


@dataclass(frozen=True, slots=True)
class History:
    """The columns of `metrics.csv` by name, a value for each epoch; ``epochs`` are their numbers, from 1, and ``lost``
    the lines that are no whole row."""

    epochs: tuple[int, ...]
    columns: dict[str, list[float]]
    lost: int = 0

    def __len__(self) -> int:
        return len(self.epochs)

    def column(self, name: str) -> list[float]:
        """The values of a column, nan where the log has none."""
        return self.columns.get(name, [math.nan] * len(self.epochs))

    def best(self, monitor: str) -> int | None:
        """The place of the epoch with the best monitored value, of the earliest of several; None without one."""
        scores = self._scores(monitor)
        return max(range(len(scores)), key=lambda k: (_known(scores[k]), -k)) if scores else None

    def outcome(self, program: Program) -> str:
        """How the run ended, so far as its log tells."""
        done, most, stop = len(self), program.train.epochs, program.train.stop
        if done >= most:
            return "finished"
        if self.epochs and isinstance(stop, EarlyStopping):
            steps = self.column("step")[-1] / self.epochs[-1]
            horizon = Horizon(round(steps) if steps >= 1 else 1, most)
            if stop.stops(self._scores(program.train.monitor), horizon):
                return "stopped early"
        return "interrupted"

    def seconds(self) -> list[float]:
        """How long each epoch took, scoring included; the first with all that came before it."""
        ends = self.column("seconds")
        return [end - begin for begin, end in zip([0.0, *ends], ends, strict=False)]

    def thinned(self, most: int, kept: int | None) -> History:
        """At most about so many epochs at even distances, the last and that at the place ``kept`` among them."""
        if len(self) <= most:
            return self
        step = math.ceil(len(self) / most)
        last = len(self) - 1
        places = sorted({*range(0, last, step), last, last if kept is None else kept})
        columns = {name: [values[k] for k in places] for name, values in self.columns.items()}
        return History(tuple(self.epochs[k] for k in places), columns, self.lost)

    def _scores(self, monitor: str) -> list[float]:
        sign = -1 if monitor == "val.loss" else 1
        return [sign * value for value in self.column(monitor)]


def read_history(path: Path) -> History:
    """The log at ``path``; empty where there is none. Of an epoch that was trained twice the later row counts; what a
    kill left of a row is no row, and neither is what no run has written."""
    if not path.is_file():
        return History((), {})
    header, lines = read_lines(path)
    rows: dict[int, list[float]] = {}
    lost = 0
    for cells in lines:
        numbers = _numbers(cells)
        whole = len(numbers) == len(header) and header[:1] == ["epoch"]
        if whole and 1 <= numbers[0] < MOST_EPOCHS and numbers[0].is_integer():
            rows[int(numbers[0])] = numbers
        else:
            lost += 1
    ordered = [rows[epoch] for epoch in sorted(rows)]
    columns = {name: [row[k] for row in ordered] for k, name in enumerate(header)}
    return History(tuple(sorted(rows)), columns, lost)


def _numbers(cells: list[str]) -> list[float]:
    try:
        numbers = [float(cell) if cell else math.nan for cell in cells]
    except ValueError:
        return []
    return [number if abs(number) < BEYOND else math.nan for number in numbers]


def _known(value: float) -> float:
    return -math.inf if math.isnan(value) else value
