"""The demo data set: pictures of surfaces with defects, made from a seed in a few seconds.

What the classes are like is in ``defects``; the same seed gives the same pictures, whatever the number of them.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from segdsl.data.augment.sample import counter_rng
from segdsl.data.demo.defects import CLASSES, COLORS, VOID, Recipe, draw_defects
from segdsl.data.demo.surfaces import illumination, surface
from segdsl.data.formats.labels import META_FILE
from segdsl.data.formats.layout import IMAGES, MASKS
from segdsl.diagnostics import SegError, fail

SIZE = 192
"""Height and width of a picture."""
MARKER = "demo.json"
"""Lies in the root of a demo data set and says how it was made; without it a folder is not overwritten."""
RECIPE = Recipe()


@dataclass(frozen=True, slots=True)
class DemoInfo:
    """What was written: the root, how many images each subset has, and the classes."""

    out: Path
    train: int
    val: int
    classes: tuple[str, ...]
    seconds: float


def write_demo(out: str | Path, seed: int = 0, train: int = 160, val: int = 40) -> DemoInfo:
    """Writes the data set in the layout `common_semantic_segmentation`, all of it or nothing.

    Raises :class:`SegError` where ``out`` is a file or a folder that holds anything but an earlier demo.
    """
    started, out = time.monotonic(), Path(out)
    _require_free(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    except OSError as error:
        raise _unwritable(out, error) from None
    try:
        staging.chmod(0o755)
        _write(staging, seed, train, val)
        _move_into_place(staging, out)
    except OSError as error:
        raise _unwritable(out, error) from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return DemoInfo(out, train, val, CLASSES, time.monotonic() - started)


def demo_sample(seed: int, subset: int, number: int, size: int = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """Picture ``number`` of subset 0 (train) or 1 (val): uint8 RGB (size, size, 3), and its mask (size, size)."""
    rng = counter_rng(seed, subset, number)
    picture, mask = draw_defects(rng, surface(rng, size), rng.uniform(0, 2 * np.pi), RECIPE)
    picture = picture * illumination(rng, size)[..., None]
    if rng.random() < 0.2:
        picture, mask = _with_fixture(rng, picture, mask)
    picture = picture + rng.normal(0, rng.uniform(0.006, 0.018), picture.shape)
    return np.rint(picture.clip(0, 1) * 255).astype(np.uint8), mask


def _with_fixture(rng: np.random.Generator, picture: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A dark clamp at one edge of the picture; nothing is annotated below it."""
    side, width = int(rng.integers(4)), int(rng.integers(5, 13))
    picture, mask = np.rot90(picture, side).copy(), np.rot90(mask, side).copy()
    picture[:width] = 0.12 + 0.05 * picture[:width]
    mask[: width + 2] = VOID
    return np.rot90(picture, -side), np.rot90(mask, -side)


def _write(root: Path, seed: int, train: int, val: int) -> None:
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
    marker = {"made by": "segdsl demo-data", "seed": seed, "train": train, "val": val}
    (root / MARKER).write_text(json.dumps(marker) + "\n", encoding="utf-8")


def _write_pair(folder: Path, seed: int, subset: int, number: int) -> None:
    picture, mask = demo_sample(seed, subset, number)
    image = Image.fromarray(np.ascontiguousarray(picture))
    name = f"surface_{number:04d}"
    if number % 4 == 3:
        image.save(folder / IMAGES / f"{name}.png")
    else:
        image.save(folder / IMAGES / f"{name}.jpg", quality=92)
    Image.fromarray(np.ascontiguousarray(mask)).save(folder / MASKS / f"{name}.png")


def _require_free(out: Path) -> None:
    if out.is_dir():
        if (out / MARKER).is_file() or not any(out.iterdir()):
            return
        message, help = "the folder holds something that is no demo data set", "name a new folder, or empty this one"
    elif out.exists():
        message, help = "a file of this name is in the way", "name a new folder"
    else:
        return
    raise fail("demo-target-taken", message, help, path=str(out))


def _move_into_place(staging: Path, out: Path) -> None:
    if not out.exists():
        staging.rename(out)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{out.name}-old-", dir=out.parent))
    out.rename(old / "data")
    try:
        staging.rename(out)
    except OSError:
        (old / "data").rename(out)
        raise
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(old)


def _unwritable(out: Path, error: OSError) -> SegError:
    reason = (error.strerror or "it cannot be written").lower()
    return fail(
        "demo-target-unwritable", f"the folder cannot be written: {reason}", "name another folder", path=str(out)
    )
