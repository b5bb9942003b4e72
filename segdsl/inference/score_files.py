"""The scores of an evaluation as CSV: `images.csv`, `classes.csv` and `confusion.csv` in a separate folder.

Scores are from 0 to 1; an empty cell is an undefined score. `images.csv` is written row by row to a temporary file
while images are evaluated; all three files appear at the end.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import TextIO

import numpy as np
import numpy.typing as npt

from segdsl.diagnostics import SegError, fail
from segdsl.scores.confusion import Confusion, average_known
from segdsl.scores.per_image import ImageScore
from segdsl.storage.atomic import replace_atomically, write_atomically

IMAGES_FILE, CLASSES_FILE, CONFUSION_FILE = "images.csv", "classes.csv", "confusion.csv"
IMAGE_COLUMNS = ("image", "pixels", "void", "dice", "miou", "accuracy")
CLASS_COLUMNS = ("class", "dice", "iou", "precision", "recall")
CONFUSION_CORNER = "true/predicted"
HEADER_PREFIXES = {
    IMAGES_FILE: ",".join(IMAGE_COLUMNS),
    CLASSES_FILE: ",".join(CLASS_COLUMNS),
    CONFUSION_FILE: CONFUSION_CORNER,
}
"""Start of the first line of each file; a file of that name with another start was not written by us."""


def check_score_folder(out: Path) -> None:
    """Check that ``out`` is new, empty, or an earlier evaluation. Raises SegError (`out-holds-other-files`)."""
    if not out.exists():
        return
    # A folder with our tables may contain other files too: only these three names are ever written.
    found = [name for name in HEADER_PREFIXES if out.is_dir() and (out / name).exists()]
    if out.is_dir() and all(_is_score_file(out / name) for name in found) and (found or not any(out.iterdir())):
        return
    problem = "contains other files" if out.is_dir() else "is a file"
    message = f"the output folder `{out}` {problem}; scores need a separate folder"
    raise fail("out-holds-other-files", message, "choose a new folder with `--out`", path=str(out))


def _is_score_file(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(200).startswith(HEADER_PREFIXES[path.name].encode())
    except OSError:
        return False


class ScoreWriter:
    """Context manager that writes the tables into ``out``, or nothing if that is None.

    Paths of images are relative to ``image_folder``. If the `with` block raises, no file is left behind. Raises
    SegError (`out-holds-other-files`, `scores-not-written`).
    """

    def __init__(self, out: Path | None, classes: Sequence[str], image_folder: Path, has_boundary: bool) -> None:
        self.out, self.classes, self.image_folder, self.has_boundary = out, classes, image_folder, has_boundary
        self._file: TextIO | None = None
        self._draft = ExitStack()

    def __enter__(self) -> ScoreWriter:
        if self.out is None:
            return self
        check_score_folder(self.out)
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            draft = self._draft.enter_context(replace_atomically(self.out / IMAGES_FILE, is_durable=False))
            self._file = draft.open("w", newline="", encoding="utf-8", errors="surrogateescape")
        except OSError as error:
            raise _scores_not_written_error(self.out) from error
        extra = ["boundary_f1"] if self.has_boundary else []
        by_class = [f"{kind}.{name}" for kind in ("dice", "iou", "pixels") for name in self.classes]
        self._write_row([*IMAGE_COLUMNS, *extra, *by_class])
        return self

    def write_image(self, score: ImageScore) -> None:
        """Append the row of an image to `images.csv`."""
        counts = score.confusion
        extra = [average_known(score.boundary)] if score.boundary is not None else []
        values = [counts.dice, counts.miou, counts.accuracy, *extra, *counts.dice_by_class, *counts.iou_by_class]
        name = score.path.relative_to(self.image_folder) if score.path.is_relative_to(self.image_folder) else score.path
        self._write_row(
            [
                name.as_posix(),
                counts.pixel_count,
                score.void_pixels,
                *_format_scores(values),
                *counts.target_pixels.tolist(),
            ]
        )

    def _write_row(self, cells: Iterable[object]) -> None:
        if self._file is None or self.out is None:
            return
        try:
            csv.writer(self._file, lineterminator="\n").writerow(cells)
        except OSError as error:
            raise _scores_not_written_error(self.out) from error

    def finish(self, counts: Confusion, boundary: npt.NDArray[np.float64] | None) -> None:
        """Write the tables of the whole subset and publish `images.csv`."""
        if self._file is None or self.out is None:
            return
        try:
            self._file.close()
            write_atomically(self.out / CLASSES_FILE, _format_class_table(counts, boundary))
            rows = [[name, *row] for name, row in zip(counts.classes, counts.counts.tolist(), strict=True)]
            write_atomically(self.out / CONFUSION_FILE, _format_csv([CONFUSION_CORNER, *counts.classes], rows))
            self._draft.close()
        except OSError as error:
            raise _scores_not_written_error(self.out) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None and self.out is not None:
            # Closing flushes, which fails again on a full disk; that was reported when a row was written.
            with suppress(OSError):
                self._file.close()
            # Removes the draft, unless `finish` has published it.
            failure = error or RuntimeError("incomplete")
            self._draft.__exit__(type(failure), failure, trace)


def _format_class_table(counts: Confusion, boundary: npt.NDArray[np.float64] | None) -> bytes:
    scores = [counts.dice_by_class, counts.iou_by_class, counts.precision_by_class, counts.recall_by_class]
    head = [*CLASS_COLUMNS, *([] if boundary is None else ["boundary_f1"]), "pixels", "predicted"]
    scores += [] if boundary is None else [boundary]
    columns = [
        counts.classes,
        *map(_format_scores, scores),
        counts.target_pixels.tolist(),
        counts.prediction_pixels.tolist(),
    ]
    return _format_csv(head, zip(*columns, strict=True))


def _format_csv(head: Sequence[str], rows: Iterable[Iterable[object]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return text.getvalue().encode("utf-8", "surrogateescape")


def _format_scores(values: Iterable[float]) -> list[str]:
    return ["" if math.isnan(value) else f"{value:.6g}" for value in values]


def _scores_not_written_error(out: Path) -> SegError:
    return fail(
        "scores-not-written",
        f"the scores could not be written into `{out}`",
        "check that the disk has free space and that the folder is writable",
        path=str(out),
    )
