"""The written log of a run: one row an epoch in `metrics.csv`, and the same numbers for TensorBoard."""

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
from segdsl.ir.monitor import class_of
from segdsl.run.engine.state import Progress
from segdsl.run.folder.layout import RunFolder
from segdsl.scores.confusion import Confusion
from segdsl.storage.atomic import sync_folder, write_text


@dataclass(frozen=True, slots=True)
class EpochRow:
    """What is known after an epoch. ``epoch`` and ``step`` count from 1; ``lr`` is that of its last step.

    ``grad_norm`` is the mean norm of the gradient of a step, before clipping, and ``clipped`` the share of the steps in
    which it was longer than `train.clip`; ``waiting`` the share of the training time in which data was waited for.
    ``background`` is the class that the scores of the foreground leave out.
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

    def facts(self) -> dict[str, float]:
        """Every field but the counts."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self) if entry.name != "confusion"}

    def monitored(self, name: str) -> float:
        """The value of what a run watches (see `ir.monitor`)."""
        return self.values()[name]

    def score(self, name: str) -> float:
        """The monitored value, turned so that larger is better."""
        return -self.val_loss if name == "val.loss" else self.monitored(name)

    def values(self) -> dict[str, float]:
        """Every number by its column."""
        scores = {"dice": self.confusion.dice_by_class, "iou": self.confusion.iou_by_class}
        by_class = {
            f"val.{score}.{name}": value
            for score, values in scores.items()
            for name, value in zip(self.confusion.classes, values.tolist(), strict=True)
        }
        front = self.confusion.foreground(self.background)
        return {
            "lr": self.lr,
            "train.loss": self.train_loss,
            "train.grad_norm": self.grad_norm,
            "train.clipped": self.clipped,
            "val.loss": self.val_loss,
            **{f"val.{name}": value for name, value in self.confusion.summary().items()},
            "images_per_second": self.images_per_second,
            "waiting": self.waiting,
            **{f"val.foreground.{name}": value for name, value in front.items()},
            **by_class,
        }


class RunLog:
    """Writes the log. The header is on disk before the first step, and every row when its epoch ends.

    A run that goes on has ``since`` in it: the rows of later epochs, which its checkpoint does not know, are dropped.
    Raises SegError (`log-not-written`) when the disk refuses it.
    """

    def __init__(self, folder: RunFolder, classes: tuple[str, ...], since: Progress | None = None) -> None:
        # TensorBoard's writer is imported late, so that reading a log does not need it.
        from torch.utils.tensorboard.writer import SummaryWriter

        self._heard = threading.excepthook
        threading.excepthook = self._overheard
        empty = EpochRow(0, 0, 0.0, 0.0, 0.0, 0.0, Confusion(classes, 255), 0.0)
        self.path: Path = folder.metrics
        self._columns = ["epoch", "step", "seconds", *empty.values()]
        try:
            with _refused(folder.root):
                if since is None:
                    self._write(self._columns, "w")
                    sync_folder(folder.root)
                else:
                    write_text(self.path, _csv([self._columns, *rows_until(self.path, self._columns, since.epoch)]))
                # TensorBoard hides what earlier files have from that step on.
                self._board = SummaryWriter(
                    str(folder.tensorboard), purge_step=None if since is None else since.step + 1
                )
                self._board.flush()
        except BaseException:
            threading.excepthook = self._heard
            raise

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with _refused(self.path.parent):
                self._board.close()
        except SegError:
            if error is None:  # else what ended the run is what is said
                raise
        finally:
            threading.excepthook = self._heard

    def epoch(self, row: EpochRow) -> None:
        """Appends the row of a finished epoch."""
        values = row.values()
        texts = [f"{value:.6g}" for value in values.values()]
        with _refused(self.path.parent):
            self._write([str(row.epoch), str(row.step), f"{row.seconds:.2f}", *texts], "a")
            for name, value in values.items():
                self._board.add_scalar(_tag(name), value, row.step)
            self._board.flush()

    def _overheard(self, fault: threading.ExceptHookArgs) -> None:
        """What ends the thread that writes the curves is raised where they are given to it, too, and is said there."""
        if not (isinstance(fault.exc_value, OSError) and type(fault.thread).__module__.startswith("tensorboard.")):
            self._heard(fault)

    def _write(self, cells: list[str], mode: str) -> None:
        with self.path.open(mode, newline="", encoding="utf-8") as file:
            file.write(_csv([cells]))
            file.flush()
            os.fsync(file.fileno())


def _tag(column: str) -> str:
    """The name of a column as TensorBoard groups it: by its parts, of which the name of a class is one."""
    name = class_of(column) or ""
    return column.removesuffix(name).replace(".", "/") + name.replace("/", "%2F")


def rows_until(path: Path, columns: Sequence[str], epoch: int) -> list[list[str]]:
    """The whole rows of a log up to an epoch, the later of two for one, in these columns. Raises OSError."""
    if not path.is_file():
        return []
    header, lines = read_lines(path)
    rows: dict[int, list[str]] = {}
    for cells in lines:
        named = dict(zip(header, cells, strict=False))
        if len(cells) == len(header) and named.get("epoch", "").isdecimal() and int(named["epoch"]) <= epoch:
            rows[int(named["epoch"])] = [named.get(name, "") for name in columns]
    return [rows[number] for number in sorted(rows)]


def read_lines(path: Path) -> tuple[list[str], list[list[str]]]:
    """The header of a log, and the cells of every other line; none of a line that is no row of a table. Raises
    OSError."""
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        lines = [_cells(line) for line in file.read().replace("\r", "").split("\n") if line]
    return (lines[0], lines[1:]) if lines else ([], [])


def _cells(line: str) -> list[str]:
    try:
        return next(csv.reader([line]), [])
    except csv.Error:  # a cell without end
        return []


def _csv(rows: Iterable[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


@contextmanager
def _refused(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        message = f"the log of the run could not be written: {error.strerror or 'the disk may be full'}"
        help = "see that the disk has room and that the run folder may be written"
        raise fail("log-not-written", message, help, path=str(folder)) from error
