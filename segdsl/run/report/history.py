"""The epochs of a run, read from its log."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

from segdsl.ir.program import Program
from segdsl.words.schedules import Horizon
from segdsl.words.stoppers import EarlyStopping


@dataclass(frozen=True, slots=True)
class History:
    """The columns of `metrics.csv` by name, a value for each epoch; ``epochs`` are their numbers, from 1."""

    epochs: tuple[int, ...]
    columns: dict[str, list[float]]

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
            steps = round(self.column("step")[-1] / self.epochs[-1])
            if stop.stops(self._scores(program.train.monitor), Horizon(steps, most)):
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
        return History(tuple(self.epochs[k] for k in places), columns)

    def _scores(self, monitor: str) -> list[float]:
        sign = -1 if monitor == "val.loss" else 1
        return [sign * value for value in self.column(monitor)]


def read_history(path: Path) -> History:
    """The log at ``path``; empty where there is none. Of an epoch that was trained twice the later row counts, and what
    a kill left of a row is no row."""
    if not path.is_file():
        return History((), {})
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        header, *lines = list(csv.reader(file)) or [[]]
    rows: dict[int, list[float]] = {}
    for cells in lines:
        numbers = _numbers(cells)
        if len(numbers) == len(header) and header[:1] == ["epoch"] and math.isfinite(numbers[0]):
            rows[int(numbers[0])] = numbers
    ordered = [rows[epoch] for epoch in sorted(rows)]
    columns = {name: [row[k] for row in ordered] for k, name in enumerate(header)}
    return History(tuple(sorted(rows)), columns)


def _numbers(cells: list[str]) -> list[float]:
    try:
        return [float(cell) if cell else math.nan for cell in cells]
    except ValueError:
        return []


def _known(value: float) -> float:
    return -math.inf if math.isnan(value) else value
