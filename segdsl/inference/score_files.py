"""The scores of an evaluation as CSV: `images.csv`, `classes.csv` and `confusion.csv` in a separate folder.

Scores are from 0 to 1; an empty cell is an undefined score. `images.csv` is written row by row to a temporary file
while images are evaluated; all three files appear at the end.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TextIO

import numpy as np
import numpy.typing as npt

from segdsl.diagnostics import SegError, fail
from segdsl.scores.confusion import Confusion, mean_known
from segdsl.scores.per_image import ImageScore
from segdsl.storage.whole_files import draft_of, write_whole

IMAGES, CLASSES, CONFUSION = "images.csv", "classes.csv", "confusion.csv"
IMAGE_COLUMNS = ("image", "pixels", "void", "dice", "miou", "accuracy")
CLASS_COLUMNS = ("class", "dice", "iou", "precision", "recall")
CORNER = "true/predicted"
BEGINNINGS = {IMAGES: ",".join(IMAGE_COLUMNS), CLASSES: ",".join(CLASS_COLUMNS), CONFUSION: CORNER}
"""Start of the first line of each file; a file of that name with another start was not written by us."""


def check_out(out: Path) -> None:
    """Check that ``out`` is new, empty, or an earlier evaluation. Raises SegError (`out-holds-other-files`)."""
    if not out.exists():
        return
    # A folder with our tables may contain other files too: only these three names are ever written.
    found = [name for name in BEGINNINGS if out.is_dir() and (out / name).exists()]
    if out.is_dir() and all(_is_ours(out / name) for name in found) and (found or not any(out.iterdir())):
        return
    problem = "contains other files" if out.is_dir() else "is a file"
    message = f"the output folder `{out}` {problem}; scores need a separate folder"
    raise fail("out-holds-other-files", message, "choose a new folder with `--out`", path=str(out))


def _is_ours(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(200).startswith(BEGINNINGS[path.name].encode())
    except OSError:
        return False


class ScoreFiles:
    """Context manager that writes the tables into ``out``, or nothing if that is None.

    Paths of images are relative to ``image_folder``. If the `with` block raises, no file is left behind. Raises
    SegError (`out-holds-other-files`, `scores-not-written`).
    """

    def __init__(self, out: Path | None, classes: Sequence[str], images: Path, boundary: bool) -> None:
        self.out, self.classes, self.images, self.boundary = out, classes, images, boundary
        self._file: TextIO | None = None

    def __enter__(self) -> ScoreFiles:
        if self.out is None:
            return self
        check_out(self.out)
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            draft = draft_of(self.out / IMAGES)
            self._file = draft.open("w", newline="", encoding="utf-8", errors="surrogateescape")
        except OSError as error:
            raise _not_written(self.out) from error
        extra = ["boundary_f1"] if self.boundary else []
        by_class = [f"{kind}.{name}" for kind in ("dice", "iou", "pixels") for name in self.classes]
        self._row([*IMAGE_COLUMNS, *extra, *by_class])
        return self

    def image(self, score: ImageScore) -> None:
        """Append the row of an image to `images.csv`."""
        counts = score.confusion
        extra = [mean_known(score.boundary)] if score.boundary is not None else []
        values = [counts.dice, counts.miou, counts.accuracy, *extra, *counts.dice_by_class, *counts.iou_by_class]
        name = score.path.relative_to(self.images) if score.path.is_relative_to(self.images) else score.path
        self._row([name.as_posix(), counts.pixels, score.void, *_numbers(values), *counts.true.tolist()])

    def _row(self, cells: Iterable[object]) -> None:
        if self._file is None or self.out is None:
            return
        try:
            csv.writer(self._file, lineterminator="\n").writerow(cells)
        except OSError as error:
            raise _not_written(self.out) from error

    def finish(self, counts: Confusion, boundary: npt.NDArray[np.float64] | None) -> None:
        """Write the tables of the whole subset and publish `images.csv`."""
        if self._file is None or self.out is None:
            return
        try:
            self._file.close()
            write_whole(self.out / CLASSES, _class_table(counts, boundary))
            rows = [[name, *row] for name, row in zip(counts.classes, counts.counts.tolist(), strict=True)]
            write_whole(self.out / CONFUSION, _table([CORNER, *counts.classes], rows))
            draft_of(self.out / IMAGES).replace(self.out / IMAGES)
        except OSError as error:
            raise _not_written(self.out) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None and self.out is not None:
            # Closing flushes, which fails again on a full disk; that was reported when a row was written.
            with suppress(OSError):
                self._file.close()
            draft_of(self.out / IMAGES).unlink(missing_ok=True)


def _class_table(counts: Confusion, boundary: npt.NDArray[np.float64] | None) -> bytes:
    scores = [counts.dice_by_class, counts.iou_by_class, counts.precision_by_class, counts.recall_by_class]
    head = [*CLASS_COLUMNS, *([] if boundary is None else ["boundary_f1"]), "pixels", "predicted"]
    scores += [] if boundary is None else [boundary]
    columns = [counts.classes, *map(_numbers, scores), counts.true.tolist(), counts.predicted.tolist()]
    return _table(head, zip(*columns, strict=True))


def _table(head: Sequence[str], rows: Iterable[Iterable[object]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return text.getvalue().encode("utf-8", "surrogateescape")


def _numbers(values: Iterable[float]) -> list[str]:
    return ["" if math.isnan(value) else f"{value:.6g}" for value in values]


def _not_written(out: Path) -> SegError:
    return fail(
        "scores-not-written",
        f"the scores could not be written into `{out}`",
        "check that the disk has free space and that the folder is writable",
        path=str(out),
    )
