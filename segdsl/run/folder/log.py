"""The log of a run: one row per epoch in `metrics.csv`, and the same numbers for TensorBoard."""

from __future__ import annotations

import csv
import io
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType

from segdsl.diagnostics import SegError, fail
from segdsl.ir.monitor import extract_class
from segdsl.run.engine.state import RunProgress
from segdsl.run.folder.layout import RunFolder
from segdsl.scores.confusion import Confusion
from segdsl.storage.atomic import sync_folder, write_text_atomically


@dataclass(frozen=True, slots=True)
class EpochRow:
    """The results of an epoch. ``epoch`` and ``step`` count from 1; ``lr`` is the learning rate of its last step.

    ``grad_norm`` is the mean gradient norm of its steps, before clipping, and ``clipped`` the share of steps in which
    it exceeded `train.clip`; ``waiting`` is the share of the training time spent waiting for data. ``background`` is
    the id of the class that foreground scores leave out.
    """

    epoch: int
    step: int
    seconds: float
    lr: float
    train_loss: float
    val_loss: float
    confusion: Confusion
    images_per_second: float
    grad_norm: float = 0.0
    clipped: float = 0.0
    waiting: float = 0.0
    background: int = 0

    def collect_facts(self) -> dict[str, float]:
        """Return every field but the counts."""
        # The names of the fields are keys in the state file: renaming one makes older runs impossible to resume.
        return {entry.name: getattr(self, entry.name) for entry in fields(self) if entry.name != "confusion"}

    def get_value(self, name: str) -> float:
        """Return the value of a monitor (see `ir.monitor`)."""
        return self.collect_values()[name]

    def compute_score(self, name: str) -> float:
        """Return the value of a monitor, negated for the loss so that larger is always better."""
        return -self.val_loss if name == "val.loss" else self.get_value(name)

    def collect_values(self) -> dict[str, float]:
        """Return every number by its column in the log."""
        scores = {"dice": self.confusion.dice_by_class, "iou": self.confusion.iou_by_class}
        by_class = {
            f"val.{score}.{name}": value
            for score, values in scores.items()
            for name, value in zip(self.confusion.classes, values.tolist(), strict=True)
        }
        front = self.confusion.compute_foreground_scores(self.background)
        return {
            "lr": self.lr,
            "train.loss": self.train_loss,
            "train.grad_norm": self.grad_norm,
            "train.clipped": self.clipped,
            "val.loss": self.val_loss,
            **{f"val.{name}": value for name, value in self.confusion.summarize_scores().items()},
            "images_per_second": self.images_per_second,
            "waiting": self.waiting,
            **{f"val.foreground.{name}": value for name, value in front.items()},
            **by_class,
        }


class RunLog:
    """Writes the log: the header before the first step, and a row when an epoch ends.

    ``since`` is the progress of a resumed run: rows of later epochs, which its checkpoint does not have, are dropped.
    Raises SegError (`log-not-written`) if the disk refuses it.
    """

    def __init__(self, folder: RunFolder, classes: tuple[str, ...], since: RunProgress | None = None) -> None:
        # Imported late: reading a log must not need TensorBoard.
        from torch.utils.tensorboard.writer import SummaryWriter

        self._previous_hook = threading.excepthook
        threading.excepthook = self._filter_thread_error
        empty = EpochRow(0, 0, 0.0, 0.0, 0.0, 0.0, Confusion(classes, 255), 0.0)
        self.path: Path = folder.metrics
        self._columns = ["epoch", "step", "seconds", *empty.collect_values()]
        try:
            with _report_log_errors(folder.root):
                if since is None:
                    self._write_row(self._columns, "w")
                    sync_folder(folder.root)
                else:
                    write_text_atomically(
                        self.path, _format_csv([self._columns, *read_rows_until(self.path, self._columns, since.epoch)])
                    )
                # With `purge_step`, TensorBoard hides what earlier event files have from that step on.
                self._tensorboard = SummaryWriter(
                    str(folder.tensorboard), purge_step=None if since is None else since.step + 1
                )
                self._tensorboard.flush()
        except BaseException:
            threading.excepthook = self._previous_hook
            raise

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with _report_log_errors(self.path.parent):
                self._tensorboard.close()
        except SegError:
            if error is None:  # else the error that ended the run is reported, not this one
                raise
        finally:
            threading.excepthook = self._previous_hook

    def write_epoch(self, row: EpochRow) -> None:
        """Append the row of a finished epoch."""
        values = row.collect_values()
        texts = [f"{value:.6g}" for value in values.values()]
        with _report_log_errors(self.path.parent):
            self._write_row([str(row.epoch), str(row.step), f"{row.seconds:.2f}", *texts], "a")
            for name, value in values.items():
                self._tensorboard.add_scalar(_make_tag(name), value, row.step)
            self._tensorboard.flush()

    def _filter_thread_error(self, fault: threading.ExceptHookArgs) -> None:
        """Keep quiet about a disk error in TensorBoard's writer thread; pass on everything else."""
        # TensorBoard raises the same error in the main thread when it is next used, where it becomes a diagnostic.
        if not (isinstance(fault.exc_value, OSError) and type(fault.thread).__module__.startswith("tensorboard.")):
            self._previous_hook(fault)

    def _write_row(self, cells: list[str], mode: str) -> None:
        with self.path.open(mode, newline="", encoding="utf-8") as file:
            file.write(_format_csv([cells]))
            file.flush()
            os.fsync(file.fileno())


def _make_tag(column: str) -> str:
    """Return the TensorBoard tag of a column: its parts separated by `/`, which groups the charts."""
    # A class name is one part, even with dots or slashes in it.
    name = extract_class(column) or ""
    return column.removesuffix(name).replace(".", "/") + name.replace("/", "%2F")


def read_rows_until(path: Path, columns: Sequence[str], epoch: int) -> list[list[str]]:
    """Return the complete rows of a log up to ``epoch``, with these columns, the later one if an epoch is there twice.

    Raises OSError.
    """
    if not path.is_file():
        return []
    header, lines = read_log(path)
    rows: dict[int, list[str]] = {}
    for cells in lines:
        named = dict(zip(header, cells, strict=False))
        # A row that a kill cut short has too few cells.
        if len(cells) == len(header) and named.get("epoch", "").isdecimal() and int(named["epoch"]) <= epoch:
            rows[int(named["epoch"])] = [named.get(name, "") for name in columns]
    return [rows[number] for number in sorted(rows)]


def read_log(path: Path) -> tuple[list[str], list[list[str]]]:
    """Return the header of a log and the cells of its other lines, none for a malformed line. Raises OSError."""
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        lines = [_parse_cells(line) for line in file.read().replace("\r", "").split("\n") if line]
    return (lines[0], lines[1:]) if lines else ([], [])


def _parse_cells(line: str) -> list[str]:
    try:
        return next(csv.reader([line]), [])
    except csv.Error:  # an unterminated quote
        return []


def _format_csv(rows: Iterable[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


@contextmanager
def _report_log_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        message = f"cannot write the log of the run: {error.strerror or 'the disk may be full'}"
        help = "free disk space or make the run folder writable"
        raise fail("log-not-written", message, help, path=str(folder)) from error
