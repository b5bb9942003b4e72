"""Segmentation of image files and folders: an index mask and an overlay for each, and a table of the results."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segdsl.data.decode.images import IMAGE_EXTENSIONS, read_image
from segdsl.data.pictures.palette import make_class_styles
from segdsl.diagnostics import Diagnostic, SegError, fail, find_closest_name
from segdsl.inference.models.model import Model
from segdsl.inference.overlay import encode_mask_png, render_overlay_png
from segdsl.inference.preprocess import restore_mask_size
from segdsl.inference.tiling import classify_image
from segdsl.storage.atomic import write_atomically

TABLE_FILE = "predictions.csv"
"""The table of images and masks; a folder with such a table is the output of an earlier prediction."""
TABLE_COLUMNS = ["image", "mask", "overlay"]
MASK_FOLDER, OVERLAY_FOLDER = "masks", "overlays"


@dataclass(frozen=True, slots=True)
class ImageJob:
    """An image and the relative path of its results below `masks` and `overlays`."""

    image: Path
    result_path: Path


def predict_files(open: Callable[[], Model], inputs: Sequence[str], out: Path) -> dict[str, Any]:
    """Segment images and folders of images (recursively, by extension) as the section `eval` of the program sets.

    ``open`` opens the model, which takes seconds, after everything else has been checked. Writes `out/masks/NAME.png`
    (palette PNG, pixel value = class id), `out/overlays/NAME.png` and `out/predictions.csv`, with the subfolders of an
    input folder. Returns the number of `images` and the folder `out`.

    Inputs that cannot be read are skipped. At the end they are raised in one SegError with a diagnostic for each
    (`input-missing`, `input-without-images`, and those of the images) and a summary (`predictions-incomplete`). Raises
    before any work if there is nothing to do, or if ``out`` contains other files (`out-holds-other-files`).
    """
    out = Path(out)
    faults: list[Diagnostic] = []
    jobs = collect_jobs([Path(name) for name in inputs], out, faults)
    if not jobs:
        raise SegError(faults)
    check_prediction_folder(out, jobs)
    model = open()
    try:
        # The table names all results from the start, so that an interrupted prediction can be repeated.
        write_atomically(out / TABLE_FILE, _format_prediction_table(jobs))
        done = list(_segment_all(model, jobs, out, faults))
        write_atomically(out / TABLE_FILE, _format_prediction_table(done))
    except OSError as error:
        raise _predictions_not_written_error(out) from error
    if faults:
        message = f"{len(done)} of {len(jobs)} images were segmented; the results are in `{out}`"
        help = "fix or remove the inputs named above, then run the command again"
        raise SegError([*faults, Diagnostic("predictions-incomplete", message, help, severity="note")])
    return {"images": len(done), "out": str(out)}


def _segment_all(model: Model, jobs: Sequence[ImageJob], out: Path, faults: list[Diagnostic]) -> Iterator[ImageJob]:
    """Segment one image after another; yield those that succeed and append the errors of others to ``faults``."""
    styles = make_class_styles(model.classes, model.colors, model.program.data.background)
    for job in jobs:
        try:
            image = read_image(job.image, model.read_options)
        except SegError as error:
            faults.extend(error.diagnostics)
            continue
        mask = restore_mask_size(classify_image(model, image), image.shape[0], image.shape[1])
        write_atomically(out / MASK_FOLDER / job.result_path, encode_mask_png(mask, model.colors))
        write_atomically(out / OVERLAY_FOLDER / job.result_path, render_overlay_png(image, mask, styles))
        yield job


def collect_jobs(inputs: Sequence[Path], out: Path, faults: list[Diagnostic]) -> list[ImageJob]:
    """Collect the images in ``inputs``, sorted within each folder, each once, with unique paths for the results.

    Appends errors to ``faults``.
    """
    names: dict[Path, Path] = {}
    for path in inputs:
        if path.is_dir():
            # Earlier results may be inside an input folder; they are not inputs.
            images = [p for p in _list_images(path) if not p.resolve().is_relative_to(out.resolve())]
            if not images:
                extensions = ", ".join(sorted(e.lstrip(".") for e in IMAGE_EXTENSIONS))
                message, help = f"`{path}` contains no images", f"images have one of the extensions {extensions}"
                faults.append(Diagnostic("input-without-images", message, help, path=str(path)))
            for image in images:
                names.setdefault(image, image.relative_to(path))
        elif path.exists():
            # Any extension: a file that is named explicitly is tried.
            names.setdefault(path, Path(path.name))
        else:
            message = f"`{path}` does not exist"
            faults.append(Diagnostic("input-missing", message, _suggest_input(path), path=str(path)))
    return _assign_result_paths(names)


def _suggest_input(missing: Path) -> str:
    siblings = [p.name for p in missing.parent.iterdir()] if missing.parent.is_dir() else []
    near = find_closest_name(missing.name, siblings)
    return f"did you mean `{missing.with_name(near)}`?" if near else "pass an image or a folder of images"


def _list_images(folder: Path) -> list[Path]:
    images = []
    for root, folders, files in os.walk(folder):
        # In place: os.walk then skips hidden folders and visits the others in order.
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        names = sorted(name for name in files if not name.startswith("."))
        images += [Path(root, name) for name in names if Path(name).suffix.lower() in IMAGE_EXTENSIONS]
    return images


def _assign_result_paths(names_by_image: dict[Path, Path]) -> list[ImageJob]:
    """Assign a unique result path to each image.

    `a.jpg` becomes `a.png`. Images that would share a path keep their extension (`a.jpg.png`) and, if that is not
    enough, get a number.
    """
    # Lower case, since some file systems ignore case.
    counts: dict[str, int] = {}
    for name in names_by_image.values():
        key = str(name.with_suffix("")).lower()
        counts[key] = counts.get(key, 0) + 1
    jobs, taken = [], set()
    for image, name in names_by_image.items():
        is_unique = counts[str(name.with_suffix("")).lower()] == 1
        stem = name.stem if is_unique else name.name
        result, number = name.with_name(f"{stem}.png"), 1
        while str(result).lower() in taken:
            number += 1
            result = name.with_name(f"{stem}-{number}.png")
        taken.add(str(result).lower())
        jobs.append(ImageJob(image, result))
    return jobs


def check_prediction_folder(out: Path, jobs: Sequence[ImageJob]) -> None:
    """Check that ``out`` is new, empty, or contains earlier predictions, and that no other file would be overwritten.

    Raises SegError (`out-holds-other-files`).
    """
    # Otherwise `--out data/val` could overwrite hand-drawn masks.
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    earlier = _read_earlier_results(out / TABLE_FILE) if out.is_dir() else None
    problem = "contains other files" if out.is_dir() else "is a file"
    if earlier is not None:
        paths = [f"{folder}/{job.result_path.as_posix()}" for job in jobs for folder in (MASK_FOLDER, OVERLAY_FOLDER)]
        other = [path for path in paths if path not in earlier and os.path.lexists(out / path)]
        if not other:
            return
        problem = f"contains `{other[0]}`, which no prediction has written"
    message = f"the output folder `{out}` {problem}; predictions need a separate folder"
    raise fail("out-holds-other-files", message, "choose a new folder with `--out`", path=str(out))


def _read_earlier_results(table: Path) -> set[str] | None:
    """Return the masks and overlays that a table names, or None if it is not ours."""
    try:
        with table.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            rows = csv.reader(file)
            if next(rows, None) != TABLE_COLUMNS:
                return None
            return {name for row in rows for name in row[1:]}
    except (OSError, csv.Error):
        return None


def _format_prediction_table(done: Sequence[ImageJob]) -> bytes:
    """Format the table of results as CSV (`image,mask,overlay`), with results relative to the output folder."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(TABLE_COLUMNS)
    for job in done:
        name = job.result_path.as_posix()
        writer.writerow([str(job.image), f"{MASK_FOLDER}/{name}", f"{OVERLAY_FOLDER}/{name}"])
    # File names need not be valid UTF-8; their bytes are kept.
    return text.getvalue().encode("utf-8", "surrogateescape")


def _predictions_not_written_error(out: Path) -> SegError:
    return fail(
        "predictions-not-written",
        f"the predictions could not be written into `{out}`",
        "check that the disk has free space and that the folder is writable",
        path=str(out),
    )
