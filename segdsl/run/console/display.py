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
from segdsl.run.console.fetch_display import FetchDisplay
from segdsl.run.console.missing_classes import format_absence_notes
from segdsl.run.console.stdout import open_lasting_stdout
from segdsl.run.folder.log import EpochRow
from segdsl.scores.table import render_class_table, shorten_class_name
from segdsl.text.columns import measure_width, sanitize_text, truncate_end
from segdsl.text.plural import format_count
from segdsl.weights.report import LoadReport, format_load_table

NAME_WIDTH, TABLE_WIDTH, MAX_WARNINGS = 40, 100, 8
MIN_BAR, MAX_BAR = 6, 30
"""Least and greatest width of the progress bar, in columns."""
DICE_NAME, FOREGROUND_NAME = "val.dice", "val.foreground.dice"
"""The scores shown for every epoch, whatever the run monitors: the second one where the background is known."""
DISPENSABLE_PARTS = ("lr", "speed", "left", "loss")
"""Parts of a line that a narrow terminal omits, the most dispensable first."""


@dataclass(frozen=True, slots=True)
class RunSummary:
    """The facts printed before the first step.

    ``samples_per_epoch`` counts what the ``sampler`` draws. ``background`` is the class that says least about the
    result, empty if there is none.
    """

    name: str
    parameters: int
    trainable: int
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
    samples_per_epoch: int = 0
    background: str = ""

    @property
    def lead_name(self) -> str:
        """The score that is shown first."""
        return FOREGROUND_NAME if self.background else DICE_NAME


@dataclass(frozen=True, slots=True)
class StepFacts:
    """The numbers of a step that the live line shows; ``epoch`` and ``step`` (in the epoch) count from 1."""

    epoch: int
    step: int
    loss: float
    lr: float
    images_per_second: float
    seconds_left: float


class Display:
    """Prints the progress of a run to ``console``, by default standard output; nothing if ``quiet``."""

    def __init__(self, quiet: bool = False, console: Console | None = None) -> None:
        self.console = console or Console(file=open_lasting_stdout(), quiet=quiet, highlight=False)
        self.summary: RunSummary | None = None
        self._live: Live | None = None
        self._last_dice: float | None = None
        self._monitor_values: list[float] = []
        self._shown_kinds: set[str] = set()

    def show_warnings(self, warnings: Sequence[Diagnostic]) -> None:
        """Print warnings, one line each; of many only the first."""
        for warning in warnings[:MAX_WARNINGS]:
            where = f"{warning.path}: " if warning.path else ""
            self._print_wrapped(
                Text.assemble((f"warning[{warning.slug}]: ", "yellow"), sanitize_text(f"{where}{warning.message}"))
            )
        if len(warnings) > MAX_WARNINGS:
            self._print_line(
                Text(f"{len(warnings) - MAX_WARNINGS} more warnings; `segdsl data check` lists those about the data")
            )

    def show_note(self, text: str) -> None:
        """Print a note."""
        self._print_wrapped(Text.assemble(("note: ", "cyan"), sanitize_text(text, "\n")))

    def show_note_once(self, kind: str, text: str) -> None:
        """Print a note unless one of its kind was printed before."""
        if kind not in self._shown_kinds:
            self._shown_kinds.add(kind)
            self.show_note(text)

    @contextmanager
    def show_check_progress(self) -> Iterator[Callable[[int, int], None] | None]:
        """Show the progress of checking the data, on a terminal.

        Yield a function to call with the number of images done and the total, or None.
        """
        if not self.console.is_terminal or self.console.quiet:
            yield None
            return
        with self.console.status("checking the data") as status:
            yield lambda done, total: status.update(f"checking the data: {done} of {total} images")

    def show_fetch_progress(self) -> FetchDisplay:
        """Return a display of download progress for weights."""
        return FetchDisplay(self.console)

    def show_weights(self, reports: Sequence[LoadReport], random: Mapping[str, int]) -> None:
        """Print which weights were loaded, and which were not and why."""
        for line in format_load_table(reports, random, min(self.console.width, TABLE_WIDTH)):
            self._print_line(Text(line))

    def show_summary(self, summary: RunSummary) -> None:
        """Print what is about to be trained, and the run folder."""
        self.summary = summary
        trainable = f", {summary.trainable:,} of them trainable" if summary.trainable != summary.parameters else ""
        self._print_line(
            Text(
                f"{truncate_end(summary.name, NAME_WIDTH)}: {summary.classes} classes at {summary.size}, "
                f"on {summary.device}"
            )
        )
        self._print_line(Text(f"{summary.parameters:,} parameters{trainable}"))
        self._print_line(Text(f"{summary.train_images} training images, {summary.val_images} validation images"))
        if summary.sampler:
            self._print_line(Text(f"{summary.samples_per_epoch} samples per epoch, drawn by {summary.sampler}"))
        self._print_line(Text(f"run folder: {summary.run}"))

    def show_class_weights(self, weights: Mapping[str, float]) -> None:
        """Print the class weights that the loss counted in the data, if it did."""
        if weights:
            values = ", ".join(f"{shorten_class_name(name)} {weight:.3g}" for name, weight in weights.items())
            self._print_wrapped(Text(f"class weights, from pixel counts: {values}"))

    @contextmanager
    def show_live_line(self) -> Iterator[None]:
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

    def show_step(self, facts: StepFacts) -> None:
        """Update the live line after a step."""
        if self._live is None or self.summary is None:
            return
        parts = {
            "loss": f"loss {facts.loss:.3f}",
            "lr": f"lr {facts.lr:.1e}",
            "dice": f"{_shorten_score(self.summary.lead_name)} {self._last_dice:.3f}"
            if self._last_dice is not None
            else "",
            "speed": f"{facts.images_per_second:.1f} img/s",
            "left": f"{format_duration(facts.seconds_left)} left",
        }
        name, columns = f"epoch {facts.epoch}/{self.summary.epochs}", self.console.width - 1
        text = fit_parts(parts, columns - len(name) - MIN_BAR - 2, " ")
        # The bar takes the columns that the numbers leave, so that the line never wraps.
        room = min(columns - len(name) - len(text) - 2, MAX_BAR)
        line = Table.grid(padding=(0, 1))
        if room >= MIN_BAR:
            line.add_row(name, ProgressBar(total=self.summary.steps_per_epoch, completed=facts.step, width=room), text)
        else:
            line.add_row(name, text)
        self._live.update(line)

    def show_epoch(self, row: EpochRow, seconds_left: float, is_best: bool) -> None:
        """Print the line of an epoch that has ended."""
        lead = self.summary.lead_name if self.summary else DICE_NAME
        self._last_dice = row.get_value(lead)
        self._monitor_values.append(row.get_value(self.summary.monitor if self.summary else DICE_NAME))
        width = len(str(self.summary.epochs)) if self.summary else 1
        total = f"/{self.summary.epochs}" if self.summary else ""
        monitor = self.summary.monitor if self.summary else DICE_NAME
        # The star marks the score that decides which epoch is the best, and no other.
        star = "*" if is_best else " "
        parts = {
            "epoch": f"epoch {row.epoch:>{width}}{total}",
            "loss": f"loss {row.train_loss:.3f}",
            "lr": f"lr {row.lr:.1e}",
            "dice": f"{_shorten_score(lead)} {row.get_value(lead):.3f}{star if monitor == lead else ''}",
            "monitor": f"{shorten_class_name(monitor)} {row.get_value(monitor):.3f}{star}" if monitor != lead else "",
            "speed": f"{row.images_per_second:.1f} img/s",
            "left": f"{format_duration(seconds_left)} left",
        }
        self._print_line(Text(fit_parts(parts, self.console.width)))

    @contextmanager
    def show_report_progress(self) -> Iterator[None]:
        """Show that the report is being written, on a terminal."""
        if not self.console.is_terminal or self.console.quiet:
            yield
            return
        with self.console.status("writing the report"):
            yield

    def show_results(
        self, outcome: tuple[EpochRow, EpochRow, str], monitor: str, weights: Path, report: Path | None = None
    ) -> None:
        """Print the results: the best epoch, its classes, the files of the run, and what to do next.

        ``outcome`` are the rows of the best and the last epoch, and the reason for the end.
        """
        best, last, end_reason = outcome
        run = self.summary.run if self.summary else weights.parent
        self._print_line(
            Text(
                f"\n{sanitize_text(end_reason)} after {format_count(last.epoch, 'epoch')} "
                f"and {format_duration(last.seconds)}"
            )
        )
        self._print_line(
            Text(f"best epoch {best.epoch}: {shorten_class_name(monitor)} {best.get_value(monitor):.4f}", style="bold")
        )
        counts = best.confusion
        means: dict[str, dict[str, float | None]] = {"mean": {"dice": counts.dice, "iou": counts.miou}}
        if self.summary and self.summary.background:
            front = counts.compute_foreground_scores(best.background)
            without = f"without {shorten_class_name(self.summary.background)}"
            means = {without: {"dice": front["dice"], "iou": front["miou"]}, **means}
        lines = render_class_table(counts.collect_class_scores(), means)
        lead = len(lines) - len(means)
        for number, line in enumerate(lines):
            self._print_line(Text(line, style="bold" if number == lead else ""))
        for text in format_absence_notes(best.confusion):
            self.show_note(text)
        if len(self._monitor_values) > 1 and len(set(self._monitor_values)) == 1:
            value = f"{shorten_class_name(monitor)} was {best.get_value(monitor):.4f}"
            self.show_note(f"{value} in every epoch; the best epoch is merely the first")
        places = (
            ("weights", weights),
            ("log", run / "metrics.csv"),
            ("curves", run / "tensorboard"),
            ("report", report),
        )
        for label, path in (place for place in places if place[1] is not None):
            self._print_line(Text(f"{label + ':':<9}{path}"))
        self._print_line(Text(f"next:    segdsl eval {run}\n         segdsl export {run}"))

    def show_resumption(self, epoch: int, step: int, notes: Sequence[str]) -> None:
        """Print that a run was resumed after so many epochs and steps, and the notes on it."""
        self._print_line(Text(f"resuming after epoch {epoch}, step {step}"))
        for text in notes:
            self.show_note(text)

    def show_interruption(self, weights: Path | None, command: str = "") -> None:
        """Print that the user stopped the run; ``command`` resumes it."""
        self._print_line(
            Text(f"interrupted; {f'the weights so far are in {weights}' if weights else 'no step was complete yet'}")
        )
        if command:
            self._print_line(Text(f"to resume: {command}"))

    def _print_line(self, text: Text) -> None:
        self.console.print(text, soft_wrap=True)

    def _print_wrapped(self, text: Text) -> None:
        """Print sentences: wrapped between words on a terminal, one line elsewhere."""
        self.console.print(text, soft_wrap=not self.console.is_terminal)


def _shorten_score(name: str) -> str:
    return name.removeprefix("val.").replace(".", " ")


def fit_parts(parts: Mapping[str, str], width: int, separator: str = "  ") -> str:
    """Join the parts of a line, without as many of :data:`DISPENSABLE_PARTS` as it takes to fit ``width`` columns."""
    for count in range(len(DISPENSABLE_PARTS) + 1):
        line = separator.join(text for name, text in parts.items() if text and name not in DISPENSABLE_PARTS[:count])
        if measure_width(line.rstrip()) <= width:
            break
    return line


def format_duration(seconds: float) -> str:
    """Format a duration: `42s`, `3m12s`, `2h05m`; `?` if it is not known yet."""
    if not math.isfinite(seconds):
        return "?"
    whole = max(round(seconds), 0)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02}m"
