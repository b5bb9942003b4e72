"""Segmenting files and folders of images: an index mask and an overlay for each, and a table of what became what."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segdsl.data.decode.images import IMAGE_EXTENSIONS, read_image
from segdsl.data.pictures.palette import class_colors
from segdsl.diagnostics import Diagnostic, SegError, fail, nearest
from segdsl.inference.models.model import Model, open_model
from segdsl.inference.overlay import mask_png, overlay_png
from segdsl.storage.whole_files import write_whole

TABLE = "predictions.csv"
"""Which image became which mask; its presence says that a folder was filled by us."""
MASKS, OVERLAYS = "masks", "overlays"


@dataclass(frozen=True, slots=True)
class Job:
    """An image, and the path of its results below `masks` and `overlays`."""

    image: Path
    name: Path


def predict(path: str | Path, inputs: Sequence[str], out: Path, device: str = "auto") -> dict[str, Any]:
    """Segments images and folders of images (all levels, by extension) with the model at ``path``.

    ``device`` is where a run computes. Writes `out/masks/NAME.png` (palette PNG, pixel value = class id),
    `out/overlays/NAME.png` and `out/predictions.csv`; folders below an input folder are kept. Returns `images` and
    `out`. What cannot be read is left out and raised at the end, in one SegError with a finding for each
    (`input-missing`, `input-without-images`, and those of the images) and one that says what was done
    (`predictions-incomplete`). Raises at once when there is nothing to do or ``out`` holds anything else
    (`out-holds-other-files`).
    """
    out = Path(out)
    faults: list[Diagnostic] = []
    jobs = collect([Path(name) for name in inputs], out, faults)
    if not jobs:
        raise SegError(faults)
    check_out(out)
    model = open_model(path, device=device)
    try:
        # The table is there from the start, so that a folder whose filling was stopped can be filled again.
        write_whole(out / TABLE, _table([]))
        done = list(_segment_all(model, jobs, out, faults))
        write_whole(out / TABLE, _table(done))
    except OSError as error:
        raise _not_written(out) from error
    if faults:
        message = f"{len(done)} of {len(jobs)} images were segmented; they are in `{out}`"
        help = "correct or remove what is named above, and start it again"
        raise SegError([*faults, Diagnostic("predictions-incomplete", message, help, severity="note")])
    return {"images": len(done), "out": str(out)}


def _segment_all(model: Model, jobs: Sequence[Job], out: Path, faults: list[Diagnostic]) -> Iterator[Job]:
    """Segments one image after another; yields those that worked."""
    colors = class_colors(model.classes)
    for job in jobs:
        try:
            image = read_image(job.image, model.reading)
        except SegError as error:
            faults.extend(error.diagnostics)
            continue
        mask = model.predict(image)
        write_whole(out / MASKS / job.name, mask_png(mask, colors))
        write_whole(out / OVERLAYS / job.name, overlay_png(image, mask, model.classes, colors))
        yield job


def collect(inputs: Sequence[Path], out: Path, faults: list[Diagnostic]) -> list[Job]:
    """The images behind ``inputs``, sorted within each folder, each once, with a name of its own for its results.

    What lies in ``out`` is no input. Appends what is at fault to ``faults``.
    """
    found: dict[Path, Path] = {}
    for given in inputs:
        if given.is_dir():
            inside = [p for p in _images_in(given) if not p.resolve().is_relative_to(out.resolve())]
            if not inside:
                endings = ", ".join(sorted(e.lstrip(".") for e in IMAGE_EXTENSIONS))
                message, help = f"`{given}` holds no image", f"images end in one of {endings}"
                faults.append(Diagnostic("input-without-images", message, help, path=str(given)))
            for image in inside:
                found.setdefault(image, image.relative_to(given))
        elif given.exists():
            found.setdefault(given, Path(given.name))
        else:
            message = f"`{given}` does not exist"
            faults.append(Diagnostic("input-missing", message, _near(given), path=str(given)))
    return _named(found)


def _near(missing: Path) -> str:
    siblings = [p.name for p in missing.parent.iterdir()] if missing.parent.is_dir() else []
    near = nearest(missing.name, siblings)
    return f"did you mean `{missing.with_name(near)}`?" if near else "name an image or a folder of images"


def _images_in(folder: Path) -> list[Path]:
    found = []
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        names = sorted(name for name in files if not name.startswith("."))
        found += [Path(root, name) for name in names if Path(name).suffix.lower() in IMAGE_EXTENSIONS]
    return found


def _named(found: dict[Path, Path]) -> list[Job]:
    """`a.jpg` becomes `a.png`; where two images would share a name they keep their ending (`a.jpg.png`), where even
    that is taken a number follows. Names that differ only in case count as one, as some file systems see it."""
    shared: dict[str, int] = {}
    for name in found.values():
        key = str(name.with_suffix("")).lower()
        shared[key] = shared.get(key, 0) + 1
    jobs, taken = [], set()
    for image, name in found.items():
        alone = shared[str(name.with_suffix("")).lower()] == 1
        stem = name.stem if alone else name.name
        result, number = name.with_name(f"{stem}.png"), 1
        while str(result).lower() in taken:
            number += 1
            result = name.with_name(f"{stem}-{number}.png")
        taken.add(str(result).lower())
        jobs.append(Job(image, result))
    return jobs


def check_out(out: Path) -> None:
    """Refuses a folder that holds anything but earlier predictions, so that no image and no mask is ever overwritten.

    Raises SegError (`out-holds-other-files`).
    """
    if out.is_dir() and ((out / TABLE).is_file() or not any(out.iterdir())):
        return
    if out.exists():
        what = "holds other files" if out.is_dir() else "is a file"
        message = f"the output folder `{out}` {what}; predictions go into a folder of their own"
        raise fail("out-holds-other-files", message, "name a new folder with `--out`", path=str(out))


def _table(done: Sequence[Job]) -> bytes:
    """`image,mask,overlay`; results are relative to the output folder."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "mask", "overlay"])
    for job in done:
        name = job.name.as_posix()
        writer.writerow([str(job.image), f"{MASKS}/{name}", f"{OVERLAYS}/{name}"])
    return text.getvalue().encode("utf-8", "surrogateescape")


def _not_written(out: Path) -> SegError:
    return fail(
        "predictions-not-written",
        f"the predictions could not be written into `{out}`",
        "see that the disk has room and that the folder may be written",
        path=str(out),
    )
