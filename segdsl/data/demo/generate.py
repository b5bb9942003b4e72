"""The demo dataset: images of surfaces with defects, generated from a seed in a few seconds.

The classes are in ``defects``. The same seed gives the same images, no matter how many are generated.
"""

from __future__ import annotations

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from segdsl.data.augment.sample import counter_rng
from segdsl.data.demo.defects import CLASSES, COLORS, IGNORE, DefectStyle, draw_defects
from segdsl.data.demo.surfaces import make_illumination, make_surface
from segdsl.data.formats.labels import META_FILE
from segdsl.data.formats.layout import IMAGES, MASKS
from segdsl.diagnostics import SegError, fail
from segdsl.storage.draft_folders import replace_folder
from segdsl.text.json import parse_json

IMAGE_SIZE = 192
"""Height and width of an image."""
MARKER_FILE = "demo.json"
MAKER = "segdsl demo-data"
"""What the marker names as its maker."""
"""File in the root of a demo dataset that records how it was made; a folder without it is never overwritten."""
DEMO_STYLE = DefectStyle()


@dataclass(frozen=True, slots=True)
class DemoInfo:
    """A written demo dataset: its root, the number of images per subset, and its classes."""

    out: Path
    train: int
    val: int
    classes: tuple[str, ...]
    seconds: float


def write_demo_dataset(out: str | Path, seed: int = 0, train: int = 160, val: int = 40) -> DemoInfo:
    """Write the dataset in the format `common_semantic_segmentation`, completely or not at all.

    Raises :class:`SegError` if ``out`` is a file, or a folder that contains anything but an earlier demo dataset.
    """
    started, out = time.monotonic(), Path(out)
    _require_available(out)
    try:
        with replace_folder(out) as draft:
            _write_dataset(draft, seed, train, val)
    except OSError as error:
        raise _make_write_error(out, error) from None
    return DemoInfo(out, train, val, CLASSES, time.monotonic() - started)


def make_demo_sample(seed: int, subset: int, number: int, size: int = IMAGE_SIZE) -> tuple[np.ndarray, np.ndarray]:
    """Return image ``number`` of subset 0 (train) or 1 (val), uint8 RGB (size, size, 3), and its mask (size, size)."""
    rng = counter_rng(seed, subset, number)
    image, mask = draw_defects(rng, make_surface(rng, size), rng.uniform(0, 2 * np.pi), DEMO_STYLE)
    image = image * make_illumination(rng, size)[..., None]
    # One image in five, so that models meet ignored pixels that are not near a defect.
    if rng.random() < 0.2:
        image, mask = _add_fixture(rng, image, mask)
    image = image + rng.normal(0, rng.uniform(0.006, 0.018), image.shape)
    return np.rint(image.clip(0, 1) * 255).astype(np.uint8), mask


def _add_fixture(rng: np.random.Generator, image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Add a dark clamp at one edge of the image; the pixels below it are ignored."""
    side, width = int(rng.integers(4)), int(rng.integers(5, 13))
    image, mask = np.rot90(image, side).copy(), np.rot90(mask, side).copy()
    image[:width] = 0.12 + 0.05 * image[:width]
    mask[: width + 2] = IGNORE
    return np.rot90(image, -side), np.rot90(mask, -side)


def _write_dataset(root: Path, seed: int, train: int, val: int) -> None:
    meta = {
        "label_map": {str(i): name for i, name in enumerate(CLASSES)},
        "segmentation_colors": [list(c) for c in COLORS],
    }
    jobs = []
    for position, (subset, count) in enumerate((("train", train), ("val", val))):
        for kind in (IMAGES, MASKS):
            (root / subset / kind).mkdir(parents=True)
        (root / subset / META_FILE).write_text(json.dumps(meta, indent=1) + "\n", encoding="utf-8")
        jobs += [(root / subset, seed, position, number) for number in range(count)]
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        for _ in pool.map(lambda job: _write_pair(*job), jobs):
            pass
    marker = {"made by": MAKER, "seed": seed, "train": train, "val": val}
    (root / MARKER_FILE).write_text(json.dumps(marker) + "\n", encoding="utf-8")


def _write_pair(folder: Path, seed: int, subset: int, number: int) -> None:
    pixels, mask = make_demo_sample(seed, subset, number)
    image = Image.fromarray(np.ascontiguousarray(pixels))
    name = f"surface_{number:04d}"
    # A mix of PNG and JPEG files, so that the demo exercises both decoders.
    if number % 4 == 3:
        image.save(folder / IMAGES / f"{name}.png")
    else:
        image.save(folder / IMAGES / f"{name}.jpg", quality=92)
    Image.fromarray(np.ascontiguousarray(mask)).save(folder / MASKS / f"{name}.png")


def _has_marker(folder: Path) -> bool:
    """Return whether a demo dataset was written into a folder: by the content of the marker, not by its name."""
    try:
        marker = parse_json((folder / MARKER_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(marker, dict) and marker.get("made by") == MAKER


def _require_available(out: Path) -> None:
    if out.is_dir():
        if _has_marker(out) or not any(out.iterdir()):
            return
        message, help = "the folder contains something other than a demo dataset", "choose a new or an empty folder"
    elif out.exists():
        message, help = "a file with this name already exists", "choose a new folder"
    else:
        return
    raise fail("demo-target-taken", message, help, path=str(out))


def _make_write_error(out: Path, error: OSError) -> SegError:
    reason = (error.strerror or "refused by the operating system").lower()
    return fail("demo-target-unwritable", f"cannot write the folder: {reason}", "choose another folder", path=str(out))
