"""The history of a run: its epochs, read from the log."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from segdsl.ir.program import Program
from segdsl.run.folder.log import read_log
from segdsl.words.schedules import Horizon

VALUE_LIMIT, EPOCH_LIMIT = 1e39, 1_000_000_000
"""Bounds that no single-precision number and no run reaches; larger numbers in a log are damage."""


@dataclass(frozen=True, slots=True)
class History:
    """The columns of `metrics.csv` by name, with a value for each epoch.

    ``epochs`` are the epoch numbers, from 1; ``bad_lines`` counts lines that are not complete rows.
    """

    epochs: tuple[int, ...]
    columns: dict[str, list[float]]
    bad_lines: int = 0

    def __len__(self) -> int:
        return len(self.epochs)

    def get_column(self, name: str) -> list[float]:
        """Return the values of a column, nan where the log has none."""
        return self.columns.get(name, [math.nan] * len(self.epochs))

    def find_best_index(self, monitor: str) -> int | None:
        """Return the index of the epoch with the best monitored value, the earliest of several; None without epochs."""
        scores = self._get_monitor_scores(monitor)
        return max(range(len(scores)), key=lambda k: (_make_score_key(scores[k]), -k)) if scores else None

    def describe_outcome(self, program: Program) -> str:
        """Return how the run ended, judging by its log: finished, stopped early or interrupted."""
        done, total, stop = len(self), program.train.epochs, program.train.stop
        if done >= total:
            return "finished"
        if self.epochs and stop is not None:
            # The log does not record early stopping, so its rule is applied to the scores again.
            steps = self.get_column("step")[-1] / self.epochs[-1]
            horizon = Horizon(round(steps) if steps >= 1 else 1, total)
            if stop.should_stop(self._get_monitor_scores(program.train.monitor), horizon):
                return "stopped early"
        return "interrupted"

    def compute_epoch_seconds(self) -> list[float]:
        """Return the duration of each epoch in seconds, with validation; the first includes all preparation."""
        ends = self.get_column("seconds")
        return [end - begin for begin, end in zip([0.0, *ends], ends, strict=False)]

    def thin_out(self, limit: int, keep_index: int | None) -> History:
        """Return about ``limit`` evenly spaced epochs, including the last and the one at ``keep_index``."""
        if len(self) <= limit:
            return self
        step = math.ceil(len(self) / limit)
        last = len(self) - 1
        indices = sorted({*range(0, last, step), last, last if keep_index is None else keep_index})
        columns = {name: [values[k] for k in indices] for name, values in self.columns.items()}
        return History(tuple(self.epochs[k] for k in indices), columns, self.bad_lines)

    def _get_monitor_scores(self, monitor: str) -> list[float]:
        sign = -1 if monitor == "val.loss" else 1
        return [sign * value for value in self.get_column(monitor)]


def read_history(path: Path) -> History:
    """Read the log at ``path``; return an empty history if it does not exist."""
    if not path.is_file():
        return History((), {})
    header, lines = read_log(path)
    rows: dict[int, list[float]] = {}
    bad_lines = 0
    for cells in lines:
        numbers = _parse_numbers(cells)
        is_complete = len(numbers) == len(header) and header[:1] == ["epoch"]
        if is_complete and 1 <= numbers[0] < EPOCH_LIMIT and numbers[0].is_integer():
            # A resumed run may train an epoch again: the later row counts.
            rows[int(numbers[0])] = numbers
        else:
            # A kill can leave part of a row, and users can edit the file.
            bad_lines += 1
    ordered = [rows[epoch] for epoch in sorted(rows)]
    columns = {name: [row[k] for row in ordered] for k, name in enumerate(header)}
    return History(tuple(sorted(rows)), columns, bad_lines)


def _parse_numbers(cells: list[str]) -> list[float]:
    try:
        numbers = [float(cell) if cell else math.nan for cell in cells]
    except ValueError:
        return []
    return [number if abs(number) < VALUE_LIMIT else math.nan for number in numbers]


def _make_score_key(value: float) -> float:
    return -math.inf if math.isnan(value) else value
