"""The written log of a run: one row an epoch in `metrics.csv`, and the same numbers for TensorBoard."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from segdsl.diagnostics import fail
from segdsl.run.folder import RunFolder
from segdsl.run.metrics import Confusion


@dataclass(frozen=True, slots=True)
class EpochRow:
    """What is known after an epoch. ``epoch`` and ``step`` count from 1; ``lr`` is that of its last step.

    ``grad_norm`` is the mean norm of the gradient of a step, before clipping, and ``clipped`` the share of the steps in
    which it was longer than `train.clip`; ``waiting`` the share of the training time in which data was waited for.
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

    def monitored(self, name: str) -> float:
        """The value of `val.dice`, `val.miou`, `val.accuracy` or `val.loss`."""
        metric = name.removeprefix("val.")
        return self.val_loss if metric == "loss" else self.confusion.summary()[metric]

    def score(self, name: str) -> float:
        """The monitored value, turned so that larger is better."""
        return -self.val_loss if name == "val.loss" else self.monitored(name)

    def values(self) -> dict[str, float]:
        """Every number by its column."""
        dice = zip(self.confusion.classes, self.confusion.dice_by_class.tolist(), strict=True)
        return {
            "lr": self.lr,
            "train.loss": self.train_loss,
            "train.grad_norm": self.grad_norm,
            "train.clipped": self.clipped,
            "val.loss": self.val_loss,
            **{f"val.{name}": value for name, value in self.confusion.summary().items()},
            "images_per_second": self.images_per_second,
            "waiting": self.waiting,
            **{f"val.dice.{name}": value for name, value in dice},
        }


class RunLog:
    """Writes the log. The header is on disk before the first step, and every row when its epoch ends.

    Raises SegError (`log-not-written`) when the disk refuses it.
    """

    def __init__(self, folder: RunFolder, classes: tuple[str, ...]) -> None:
        # TensorBoard's writer is imported late, so that reading a log does not need it.
        from torch.utils.tensorboard.writer import SummaryWriter

        empty = EpochRow(0, 0, 0.0, 0.0, 0.0, 0.0, Confusion(classes, 255), 0.0)
        self.path: Path = folder.metrics
        self._columns = ["epoch", "step", "seconds", *empty.values()]
        with _refused(folder.root):
            self._write(self._columns, "w")
            self._board = SummaryWriter(str(folder.tensorboard))
            self._board.flush()

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._board.close()

    def epoch(self, row: EpochRow) -> None:
        """Appends the row of a finished epoch."""
        values = row.values()
        texts = [f"{value:.6g}" for value in values.values()]
        with _refused(self.path.parent):
            self._write([str(row.epoch), str(row.step), f"{row.seconds:.2f}", *texts], "a")
            for name, value in values.items():
                self._board.add_scalar(name.replace(".", "/"), value, row.step)
            self._board.flush()

    def _write(self, cells: list[str], mode: str) -> None:
        with self.path.open(mode, newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerow(cells)


@contextmanager
def _refused(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        message = f"the log of the run could not be written: {error.strerror or 'the disk may be full'}"
        help = "see that the disk has room and that the run folder may be written"
        raise fail("log-not-written", message, help, path=str(folder)) from error
