"""Public benchmarks with their own ids, each on a small dataset in its real layout."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segdsl.data.augment.lazy import read_sample
from segdsl.data.check.checker import check_data
from segdsl.data.check.index import Index, open_index
from segdsl.data.formats.layout import Request
from segdsl.data.formats.readers.voc import compute_voc_color
from segdsl.data.formats.registry import detect_format

SIZE = (6, 8)


def save(path: Path, pixels: np.ndarray, palette: list[int] | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    if palette is not None:
        image = image.convert("P")
        image.putpalette(palette)
    image.save(path)


def photo(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), np.uint8)


def ids(*rows: tuple[int, ...]) -> np.ndarray:
    """A mask whose rows start with the given ids, padded with class 0."""
    mask = np.zeros(SIZE, np.uint8)
    for number, row in enumerate(rows):
        mask[number, : len(row)] = row
    return mask


PALETTE = [channel for k in range(256) for channel in ((224, 224, 192) if k == 255 else compute_voc_color(k))]
"""Colors of a palette mask; the ids do not depend on them."""
RAW = ids((7, 8, 11, 33), (0, 4, 18, 255), (26,) * 8)
"""Ids of Cityscapes: road, sidewalk, building, bicycle; unlabeled, static, polegroup, license plate; car."""
SCORED = ids((0, 1, 2, 18), (255,) * 4, (13,) * 8)
SCORED[SCORED == 0] = 255
SCORED[0, 0] = 0


def cityscapes(root: Path) -> None:
    for subset, city in (("train", "aachen"), ("val", "lindau")):
        name = f"{subset}/{city}/{city}_000000_000019"
        save(root / "leftImg8bit" / f"{name}_leftImg8bit.png", photo())
        save(root / "gtFine" / f"{name}_gtFine_labelIds.png", RAW)
        save(root / "gtFine" / f"{name}_gtFine_color.png", photo())
        save(root / "gtFine" / f"{name}_gtFine_instanceIds.png", RAW)
    (root / "leftImg8bit" / "test").mkdir()


def kitti(root: Path) -> None:
    for subset in ("training", "validation"):
        save(root / subset / "image_2" / "000000_10.png", photo())
        save(root / subset / "semantic" / "000000_10.png", RAW)
        save(root / subset / "semantic_rgb" / "000000_10.png", photo())


def ade20k(root: Path) -> None:
    for subset, number in (("training", 1), ("validation", 2)):
        save(root / "images" / subset / f"ADE_{number:08}.jpg", photo())
        save(root / "annotations" / subset / f"ADE_{number:08}.png", ids((1, 2, 3, 0)))
    rows = [
        "Idx\tRatio\tTrain\tVal\tName",
        "1\t0.1\t9\t9\twall",
        "2\t0.1\t9\t9\tbuilding, edifice",
        "3\t0.1\t9\t9\tsky",
    ]
    (root / "objectInfo150.txt").write_text("\n".join(rows) + "\n")


def vistas(root: Path) -> None:
    for subset in ("training", "validation"):
        save(root / subset / "images" / "x.jpg", photo())
        save(root / subset / "v2.0" / "labels" / "x.png", ids((0, 1, 2, 0)), PALETTE)
        save(root / subset / "v1.2" / "labels" / "x.png", ids((9,)), PALETTE)
    entries = [{"name": "a--b", "readable": "Bird", "evaluate": True}, {"readable": "Car Mount", "evaluate": False},
               {"readable": "Curb", "evaluate": True}]  # fmt: skip
    (root / "config_v2.0.json").write_text(json.dumps({"version": "2.0", "labels": entries}))


TREES: dict[str, Callable[[Path], None]] = {
    "cityscapes": cityscapes, "kitti_segmentation": kitti, "ade20k": ade20k, "mapillary_vistas": vistas,
}  # fmt: skip


def opened(root: Path, format: str = "auto", **options: Any) -> Index:
    return open_index(root, format, Request(["train", "val"], **options))


def mask_of(index: Index, subset: str) -> np.ndarray:
    return read_sample(index, index.get_subset(subset), 0).mask


def slugs(root: Path, format: str = "auto", **options: Any) -> list[str]:
    return sorted({d.slug for d in check_data(root, format, Request(**options)).errors})


@pytest.mark.parametrize("format", TREES)
def test_format_is_detected(tmp_path: Path, format: str) -> None:
    TREES[format](tmp_path)
    assert detect_format(tmp_path) == format
    report = check_data(tmp_path, "auto")
    assert report.format == format and not report.errors and report.items == 2


@pytest.mark.parametrize("format", TREES)
def test_missing_subset_lists_existing_ones(tmp_path: Path, format: str) -> None:
    TREES[format](tmp_path)
    report = check_data(tmp_path, format, Request(["trian"]))
    (found,) = report.errors
    assert found.slug == "subset-missing" and "`train" in found.help


def test_cityscapes_and_kitti_have_nineteen_classes(tmp_path: Path) -> None:
    for write_tree in (cityscapes, kitti):
        write_tree(tmp_path / write_tree.__name__)
        index = opened(tmp_path / write_tree.__name__)
        assert len(index.classes) == 19 and index.classes[13] == "car"
        assert np.array_equal(mask_of(index, "train"), SCORED)
        assert np.array_equal(mask_of(opened(index.root, ignore=99), "val"), np.where(SCORED == 255, 99, SCORED))


def test_ade20k_ids_start_at_one_and_0_is_ignored(tmp_path: Path) -> None:
    ade20k(tmp_path)
    index = opened(tmp_path)
    assert index.classes == ("wall", "building", "sky")
    mask = mask_of(index, "train")
    assert mask[0].tolist() == [0, 1, 2, 255, 255, 255, 255, 255]
    (tmp_path / "objectInfo150.txt").unlink()
    assert slugs(tmp_path) == ["meta-missing"]
    assert opened(tmp_path, classes=("a", "b", "c")).classes == ("a", "b", "c")


def test_vistas_uses_the_newest_masks_and_evaluated_labels(tmp_path: Path) -> None:
    vistas(tmp_path)
    index = opened(tmp_path)
    assert index.classes == ("Bird", "Curb")
    assert mask_of(index, "val")[0].tolist() == [0, 255, 1, 0, 0, 0, 0, 0]


BENCHMARK_FAULTS: dict[str, tuple[Callable[[Path], None], Callable[[Path], Any], str]] = {
    "no mask": (cityscapes, lambda r: next(r.rglob("*labelIds.png")).unlink(), "mask-missing"),
    "no image": (kitti, lambda r: next(r.rglob("image_2/*.png")).unlink(), "image-missing"),
    "an id that is none": (kitti, lambda r: save(r / "training/semantic/000000_10.png", ids((77,))),
                           "mask-value-out-of-range"),
    "masks of train ids": (ade20k, lambda r: save(r / "annotations/training/ADE_00000001.png", ids((4,))),
                           "mask-value-out-of-range"),
    "no classes": (vistas, lambda r: (r / "config_v2.0.json").write_text("{}"), "meta-malformed"),
    "classes of one name": (
        vistas, lambda r: (r / "config_v2.0.json").write_text('{"labels": [{"readable": "a"}, {"readable": "a"}]}'),
        "meta-malformed"),
}  # fmt: skip


@pytest.mark.parametrize("case", BENCHMARK_FAULTS)
def test_benchmark_error_names_the_file(tmp_path: Path, case: str) -> None:
    make, spoil, slug = BENCHMARK_FAULTS[case]
    make(tmp_path)
    spoil(tmp_path)
    found = [d for d in check_data(tmp_path, "auto").errors if d.slug == slug]
    assert found and all(d.path and d.help for d in found)
