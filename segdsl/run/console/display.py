"""Console output of a run: a live line on a terminal, one line per epoch in a pipe, results at the end."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from segdsl.diagnostics import Diagnostic
from segdsl.diagnostics.render import clean
from segdsl.run.console.fetch_display import FetchDisplay
from segdsl.run.console.missing_classes import absences
from segdsl.run.console.stdout import lasting_stdout
from segdsl.run.folder.log import EpochRow
from segdsl.scores.table import class_table, short_name, shortened, width_of
from segdsl.weights.report import LoadReport, load_table

NAME_WIDTH, TABLE_WIDTH, MAX_WARNINGS = 40, 100, 8
LEAST_BAR, MOST_BAR = 6, 30
"""Least and greatest width of the progress bar, in columns."""
DICE = "val.dice"
"""The score shown for every epoch, whatever the run monitors."""
DROPPED = ("lr", "speed", "left", "loss")
"""Parts of a line that a narrow terminal omits, the most dispensable first."""


@dataclass(frozen=True, slots=True)
class Head:
    """The facts printed before the first step; ``samples_per_epoch`` counts what the ``sampler`` draws."""

    name: str
    parameters: int
    trained: int
    size: str
    train_images: int
    val_images: int
    classes: int
    device: str
    run: Path
    epochs: int
    steps_per_epoch: int
    monitor: str = "val.dice"
    sampler: str = ""
    samples: int = 0


class Display:
    """Prints the progress of a run to ``console``, by default standard output; nothing if ``quiet``."""

    def __init__(self, quiet: bool = False, console: Console | None = None) -> None:
        self.console = console or Console(file=lasting_stdout(), quiet=quiet, highlight=False)
        self.head: Head | None = None
        self._live: Live | None = None
        self._dice: float | None = None
        self._watched: list[float] = []

    def warn(self, warnings: Sequence[Diagnostic]) -> None:
        """Print warnings, one line each; of many only the first."""
        for warning in warnings[:MAX_WARNINGS]:
            where = f"{warning.path}: " if warning.path else ""
            self._prose(Text.assemble((f"warning[{warning.slug}]: ", "yellow"), clean(f"{where}{warning.message}")))
        if len(warnings) > MAX_WARNINGS:
            self._line(
                Text(f"{len(warnings) - MAX_WARNINGS} more warnings; `segdsl data check` lists those about the data")
            )

    def note(self, text: str) -> None:
        """Print a note."""
        self._prose(Text.assemble(("note: ", "cyan"), clean(text, "\n")))

    @contextmanager
    def checking(self) -> Iterator[Callable[[int, int], None] | None]:
        """Show the progress of checking the data, on a terminal.

        Yield a function to call with the number of images done and the total, or None.
        """
        if not self.console.is_terminal or self.console.quiet:
            yield None
            return
        with self.console.status("checking the data") as status:
            yield lambda done, total: status.update(f"checking the data: {done} of {total} images")

    def fetching(self) -> FetchDisplay:
        """Return a display of download progress for weights."""
        return FetchDisplay(self.console)

    def weights(self, reports: Sequence[LoadReport], random: Mapping[str, int]) -> None:
        """Print which weights were loaded, and which were not and why."""
        for line in load_table(reports, random, min(self.console.width, TABLE_WIDTH)):
            self._line(Text(line))

    def start(self, head: Head) -> None:
        """Print what is about to be trained, and the run folder."""
        self.head = head
        trainable = f", {head.trained:,} of them trainable" if head.trained != head.parameters else ""
        self._line(Text(f"{shortened(head.name, NAME_WIDTH)}: {head.classes} classes at {head.size}, on {head.device}"))
        self._line(Text(f"{head.parameters:,} parameters{trainable}"))
        self._line(Text(f"{head.train_images} training images, {head.val_images} validation images"))
        if head.sampler:
            self._line(Text(f"{head.samples} samples per epoch, drawn by {head.sampler}"))
        self._line(Text(f"run folder: {head.run}"))

    def class_weights(self, weights: Mapping[str, float]) -> None:
        """Print the class weights that the loss counted in the data, if it did."""
        if weights:
            values = ", ".join(f"{short_name(name)} {weight:.3g}" for name, weight in weights.items())
            self._prose(Text(f"class weights, from pixel counts: {values}"))

    @contextmanager
    def running(self) -> Iterator[None]:
        """Show the live line inside the block, on a terminal."""
        if not self.console.is_terminal or self.console.quiet:
            yield
            return
        with Live(console=self.console, refresh_per_second=4, transient=True) as live:
            self._live = live
            try:
                yield
            finally:
                self._live = None

    def step(
        self, epoch: int, step: int, loss: float, lr: float, images_per_second: float, seconds_left: float
    ) -> None:
        """Update the live line after a step; ``epoch`` and ``step`` (in the epoch) count from 1."""
        if self._live is None or self.head is None:
            return
        parts = {
            "loss": f"loss {loss:.3f}",
            "lr": f"lr {lr:.1e}",
            "dice": f"dice {self._dice:.3f}" if self._dice is not None else "",
            "speed": f"{images_per_second:.1f} img/s",
            "left": f"{duration(seconds_left)} left",
        }
        name, columns = f"epoch {epoch}/{self.head.epochs}", self.console.width - 1
        text = shown_parts(parts, columns - len(name) - LEAST_BAR - 2, " ")
        # The bar takes the columns that the numbers leave, so that the line never wraps.
        room = min(columns - len(name) - len(text) - 2, MOST_BAR)
        line = Table.grid(padding=(0, 1))
        if room >= LEAST_BAR:
            line.add_row(name, ProgressBar(total=self.head.steps_per_epoch, completed=step, width=room), text)
        else:
            line.add_row(name, text)
        self._live.update(line)

    def epoch(self, row: EpochRow, seconds_left: float, best: bool) -> None:
        """Print the line of an epoch that has ended."""
        self._dice = row.confusion.dice
        self._watched.append(row.monitored(self.head.monitor if self.head else DICE))
        width = len(str(self.head.epochs)) if self.head else 1
        total = f"/{self.head.epochs}" if self.head else ""
        monitor = self.head.monitor if self.head else DICE
        # The star marks the score that decides which epoch is the best, and no other.
        star = "*" if best else " "
        parts = {
            "epoch": f"epoch {row.epoch:>{width}}{total}",
            "loss": f"loss {row.train_loss:.3f}",
            "lr": f"lr {row.lr:.1e}",
            "dice": f"dice {row.confusion.dice:.3f}{star if monitor == DICE else ''}",
            "monitor": f"{short_name(monitor)} {row.monitored(monitor):.3f}{star}" if monitor != DICE else "",
            "speed": f"{row.images_per_second:.1f} img/s",
            "left": f"{duration(seconds_left)} left",
        }
        self._line(Text(shown_parts(parts, self.console.width)))

    @contextmanager
    def reporting(self) -> Iterator[None]:
        """Show that the report is being written, on a terminal."""
        if not self.console.is_terminal or self.console.quiet:
            yield
            return
        with self.console.status("writing the report"):
            yield

    def end(
        self, best: EpochRow, last: EpochRow, monitor: str, weights: Path, why: str, report: Path | None = None
    ) -> None:
        """Print the results: the best epoch, its classes, the files of the run, and what to do next."""
        run = self.head.run if self.head else weights.parent
        self._line(
            Text(
                f"\n{clean(why)} after {last.epoch} epoch{'s' if last.epoch != 1 else ''} and {duration(last.seconds)}"
            )
        )
        self._line(Text(f"best epoch {best.epoch}: {short_name(monitor)} {best.monitored(monitor):.4f}", style="bold"))
        counts = best.confusion
        *lines, mean = class_table(counts.per_class(), {"mean": {"dice": counts.dice, "iou": counts.miou}})
        for line in lines:
            self._line(Text(line))
        self._line(Text(mean, style="bold"))
        for text in absences(best.confusion):
            self.note(text)
        if len(self._watched) > 1 and len(set(self._watched)) == 1:
            value = f"{short_name(monitor)} was {best.monitored(monitor):.4f}"
            self.note(f"{value} in every epoch; the best epoch is merely the first")
        places = (
            ("weights", weights),
            ("log", run / "metrics.csv"),
            ("curves", run / "tensorboard"),
            ("report", report),
        )
        for label, path in (place for place in places if place[1] is not None):
            self._line(Text(f"{label + ':':<9}{path}"))
        self._line(Text(f"next:    segdsl eval {run}\n         segdsl export {run}"))

    def resumed(self, epoch: int, step: int, notes: Sequence[str]) -> None:
        """Print that a run was resumed after so many epochs and steps, and the notes on it."""
        self._line(Text(f"resuming after epoch {epoch}, step {step}"))
        for text in notes:
            self.note(text)

    def interrupted(self, kept: Path | None, command: str = "") -> None:
        """Print that the user stopped the run; ``command`` resumes it."""
        self._line(Text(f"interrupted; {f'the weights so far are in {kept}' if kept else 'no step was complete yet'}"))
        if command:
            self._line(Text(f"to resume: {command}"))

    def _line(self, text: Text) -> None:
        self.console.print(text, soft_wrap=True)

    def _prose(self, text: Text) -> None:
        """Print sentences: wrapped between words on a terminal, one line elsewhere."""
        self.console.print(text, soft_wrap=not self.console.is_terminal)


def shown_parts(parts: Mapping[str, str], width: int, between: str = "  ") -> str:
    """Join the parts of a line, without as many of :data:`DISPENSABLE_PARTS` as it takes to fit ``width`` columns."""
    for count in range(len(DROPPED) + 1):
        line = between.join(text for name, text in parts.items() if text and name not in DROPPED[:count])
        if width_of(line.rstrip()) <= width:
            break
    return line


def duration(seconds: float) -> str:
    """Format a duration: `42s`, `3m12s`, `2h05m`; `?` if it is not known yet."""
    if not math.isfinite(seconds):
        return "?"
    whole = max(round(seconds), 0)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02}m"
