"""Every format on a small dataset in its real layout, and the real datasets of the shared folder."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from pycocotools import mask as rle

from segdsl.data.augment.lazy import read_sample
from segdsl.data.check.checker import check_data
from segdsl.data.check.index import Index, open_index
from segdsl.data.formats.layout import Request
from segdsl.data.formats.rasterize import decode_coco_counts
from segdsl.data.formats.reader import READERS
from segdsl.data.formats.readers.voc import VOC_CLASSES, compute_voc_color
from segdsl.data.formats.registry import detect_format
from segdsl.diagnostics import SegError
from segdsl.ir.data_format import DATA_FORMATS

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"
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


MASKS = {"a": ids((1, 1, 0, 255), (1,)), "b": ids((255,) * 8, (2, 2))}
PALETTE = [channel for k in range(256) for channel in ((224, 224, 192) if k == 255 else compute_voc_color(k))]


def voc(
    root: Path, *, labels: str | None = "background:0,0,0::\ncrack:128,0,0::\nstain:0,128,0::\n", rgb: bool = False
) -> None:
    """Pascal VOC as written by its own tools, or with ``rgb`` by Datumaro."""
    for name, mask in MASKS.items():
        save(root / "JPEGImages" / f"{name}.jpg", photo())
        colors = np.array(PALETTE, np.uint8).reshape(256, 3)
        save(root / "SegmentationClass" / f"{name}.png", colors[mask] if rgb else mask, None if rgb else PALETTE)
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("a\n")
    (lists / "val.txt").write_text("b 1\n\n")
    if labels is not None:
        (root / "labelmap.txt").write_text("# label:color_rgb:parts:actions\n" + labels + "ignored:224,224,192::\n")


def rect(left: float, top: float, right: float, bottom: float) -> list[float]:
    return [left, top, right, top, right, bottom, left, bottom]


def runs(mask: np.ndarray, *, text: bool = True) -> dict[str, Any]:
    """A mask as run lengths, optionally compressed."""
    if text:
        found: Any = rle.encode(np.asfortranarray(mask.astype(np.uint8)))
        return {"size": list(mask.shape), "counts": found["counts"].decode()}
    flat = mask.astype(np.uint8).ravel(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *edges.tolist(), len(flat)]).tolist()
    return {"size": list(mask.shape), "counts": counts if flat[0] == 0 else [0, *counts]}


def annotation(number: int, image: int, category: int, shape: Any, **more: Any) -> dict[str, Any]:
    return {"id": number, "image_id": image, "category_id": category, "segmentation": shape, "iscrowd": 0, **more}


def coco(root: Path, annotations: list[dict[str, Any]] | None = None, **more: Any) -> None:
    """COCO instances with two categories, a gap in their ids, and one image per subset."""
    for number, subset in enumerate(("train", "val"), 1):
        save(root / "images" / subset / f"{subset}.png", photo())
        shapes = [
            annotation(1, number, 7, [rect(1, 1, 5, 4)]),
            annotation(2, number, 3, [rect(2, 2, 3, 3), rect(6, 0, 8, 1)]),
        ]
        content = {
            "images": [{"id": number, "file_name": f"{subset}.png", "height": SIZE[0], "width": SIZE[1]}],
            "categories": [{"id": 7, "name": "dent"}, {"id": 3, "name": "crack"}],
            "annotations": shapes if annotations is None else [{**a, "image_id": number} for a in annotations],
            **more,
        }
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"instances_{subset}.json").write_text(json.dumps(content))


def folders(root: Path) -> None:
    for subset, name in (("train", "a"), ("val", "b")):
        save(root / subset / "images" / f"{name}.png", photo())
        save(root / subset / "masks" / f"{name}.png", MASKS[name])


def common(root: Path) -> None:
    folders(root)
    for subset in ("train", "val"):
        names = {"0": "background", "1": "crack", "2": "stain"}
        (root / subset / "dataset_meta.json").write_text(json.dumps({"label_map": names}))


TREES: dict[str, Callable[[Path], None]] = {
    "common_semantic_segmentation": common, "voc_segmentation": voc, "coco_instances": coco, "folders": folders,
}  # fmt: skip
CLASSES = ("background", "crack", "stain")


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
    report = check_data(tmp_path, "auto", Request(classes=CLASSES if format == "folders" else None))
    assert report.format == format and not report.errors and report.items == 2


def test_ambiguous_format_is_an_error(tmp_path: Path) -> None:
    voc(tmp_path)
    coco(tmp_path)
    assert slugs(tmp_path) == ["format-unclear"]
    assert not slugs(tmp_path, "voc_segmentation")


def test_folder_of_no_format_reports_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    assert slugs(tmp_path) == ["data-layout-unknown"]


@pytest.mark.parametrize("rgb", [False, True])
def test_voc_reads_classes_and_ignored_pixels(tmp_path: Path, rgb: bool) -> None:
    voc(tmp_path, rgb=rgb)
    index = opened(tmp_path)
    assert index.classes == CLASSES and index.format == "voc_segmentation"
    for subset, name in (("train", "a"), ("val", "b")):
        assert np.array_equal(mask_of(index, subset), MASKS[name])


def test_voc_in_another_order_is_read_by_color(tmp_path: Path) -> None:
    voc(tmp_path, labels="background:0,0,0::\nstain:0,128,0::\ncrack:128,0,0::\n")
    index = opened(tmp_path)
    assert index.classes == ("background", "stain", "crack")
    expected = np.choose(np.minimum(MASKS["a"], 3), [0, 2, 1, 255])
    assert np.array_equal(mask_of(index, "train"), expected)


def test_voc_without_label_map_has_the_classes_of_2012(tmp_path: Path) -> None:
    voc(tmp_path, labels=None)
    index = opened(tmp_path)
    assert index.classes == VOC_CLASSES and len(VOC_CLASSES) == 21
    assert np.array_equal(mask_of(index, "val"), MASKS["b"])


def test_voc_accepts_another_ignore_value(tmp_path: Path) -> None:
    voc(tmp_path, rgb=True)
    mask = mask_of(opened(tmp_path, ignore=9), "train")
    assert np.array_equal(mask, np.where(MASKS["a"] == 255, 9, MASKS["a"]))


@pytest.mark.parametrize("format", TREES)
def test_missing_subset_lists_existing_ones(tmp_path: Path, format: str) -> None:
    TREES[format](tmp_path)
    report = check_data(tmp_path, format, Request(["trian"], classes=CLASSES))
    (found,) = report.errors
    assert found.slug == "subset-missing" and "`train" in found.help


def test_language_lists_all_formats() -> None:
    assert set(READERS) == set(DATA_FORMATS)


def drop(path: str) -> Callable[[Path], Any]:
    return lambda root: (root / path).unlink()


def write(path: str, text: str) -> Callable[[Path], Any]:
    return lambda root: (root / path).write_text(text)


LIST = "ImageSets/Segmentation/train.txt"
VOC_FAULTS: dict[str, tuple[Callable[[Path], Any], str, str]] = {
    "no mask": (drop("SegmentationClass/a.png"), "mask-missing", "JPEGImages/a.jpg"),
    "no image": (drop("JPEGImages/a.jpg"), "image-missing", LIST),
    "a name that is a path": (write(LIST, "../../a\n"), "image-missing", LIST),
    "a name twice": (write(LIST, "a\na\n"), "name-twice", LIST),
    "an empty list": (write(LIST, "\n"), "subset-empty", LIST),
    "two endings": (lambda root: save(root / "JPEGImages/a.png", photo()), "name-twice", "JPEGImages/a.png"),
    "a label that is none": (write("labelmap.txt", "crack:1,2\n"), "meta-malformed", "labelmap.txt"),
    "a colour that is none": (write("labelmap.txt", "crack:1,2,333::\n"), "meta-malformed", "labelmap.txt"),
    "a class twice": (write("labelmap.txt", "a:0,0,0::\na:1,1,1::\n"), "meta-class-twice", "labelmap.txt"),
    "a label map of other bytes": (
        lambda root: (root / "labelmap.txt").write_bytes(b"\xff\xfe"), "meta-malformed", "labelmap.txt"),
    "a list of other bytes": (lambda root: (root / LIST).write_bytes(b"\xff\xfe"), "meta-malformed", LIST),
    "a pipe": (lambda root: (drop("JPEGImages/a.jpg")(root), os.mkfifo(root / "JPEGImages/a.jpg")),
               "data-file-unreadable", "JPEGImages/a.jpg"),
    "a device": (lambda root: (drop("SegmentationClass/a.png")(root),
                               (root / "SegmentationClass/a.png").symlink_to("/dev/zero")),
                 "data-file-unreadable", "SegmentationClass/a.png"),
    "no class": (write("labelmap.txt", "# nothing\n"), "meta-malformed", "labelmap.txt"),
    "a class that is not declared": (
        write("labelmap.txt", "background:0,0,0::\n"), "mask-value-out-of-range", "SegmentationClass/a.png"),
}  # fmt: skip


@pytest.mark.parametrize("case", VOC_FAULTS)
def test_voc_error_names_the_file(tmp_path: Path, case: str) -> None:
    spoil, slug, path = VOC_FAULTS[case]
    voc(tmp_path)
    spoil(tmp_path)
    found = {(d.slug, d.path) for d in check_data(tmp_path, "voc_segmentation").errors}
    assert (slug, str(tmp_path / path)) in found


def test_coco_is_rasterized_exactly(tmp_path: Path) -> None:
    coco(tmp_path)
    index = opened(tmp_path)
    assert index.classes == ("background", "crack", "dent")
    expected = np.zeros(SIZE, np.uint8)
    expected[1:4, 1:5] = 2
    expected[2:3, 2:3] = expected[0:1, 6:8] = 1
    assert np.array_equal(mask_of(index, "train"), expected) and np.array_equal(mask_of(index, "val"), expected)


@pytest.mark.parametrize("text", [True, False])
def test_coco_has_run_lengths_holes_crowds_and_overlaps(tmp_path: Path, text: bool) -> None:
    ring = np.zeros(SIZE, bool)
    ring[0:5, 0:5] = True
    ring[2, 2] = False
    crowd = np.ones(SIZE, bool)
    crowd[5] = False
    dot = np.zeros(SIZE, bool)
    dot[0, 0] = True
    coco(tmp_path, [
        annotation(1, 1, 3, runs(dot, text=text)), annotation(2, 1, 7, runs(ring, text=text)),
        annotation(3, 1, 3, runs(crowd, text=text), iscrowd=1),
    ])  # fmt: skip
    expected = np.where(dot, 1, np.where(ring, 2, np.where(crowd, 1, 0)))
    assert np.array_equal(mask_of(opened(tmp_path), "train"), expected)


@given(arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_run_lengths_are_read_as_pycocotools_writes_them(mask: np.ndarray) -> None:
    text = runs(mask)["counts"]
    assert decode_coco_counts(text) == runs(mask, text=False)["counts"]


def test_coco_uses_the_background_setting(tmp_path: Path) -> None:
    for background, fill, classes in (("wall", 0, ("wall", "crack", "dent")), ("void", 255, ("crack", "dent"))):
        coco(tmp_path / background)
        index = open_index(tmp_path / background, "coco_instances", Request(["train"], background=background))
        assert index.classes == classes and mask_of(index, "train")[5, 7] == fill
    coco(tmp_path, categories=[{"id": 3, "name": "background"}, {"id": 7, "name": "dent"}])
    assert opened(tmp_path).classes == ("background", "dent")


def test_coco_masks_are_cached_until_annotations_change(tmp_path: Path, own_cache: Path) -> None:
    coco(tmp_path)
    opened(tmp_path)
    drawn = {path: path.stat().st_mtime_ns for path in (own_cache / "masks").rglob("*.png")}
    opened(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in (own_cache / "masks").rglob("*.png")} == drawn and len(drawn) == 2
    coco(tmp_path, [annotation(1, 1, 7, [rect(0, 0, 8, 6)])])
    assert mask_of(opened(tmp_path), "train").min() == 2


def test_interrupted_rasterization_is_completed(tmp_path: Path, own_cache: Path) -> None:
    coco(tmp_path)
    expected = mask_of(opened(tmp_path), "train")
    for path in (own_cache / "masks").rglob("*"):
        if path.name in (".whole", "train.png"):
            path.unlink()
    assert np.array_equal(mask_of(opened(tmp_path), "train"), expected)


COCO_FAULTS: dict[str, tuple[list[dict[str, Any]] | None, dict[str, Any], str]] = {
    "no outline": ([annotation(5, 1, 3, [])], {}, "meta-malformed"),
    "a line": ([annotation(5, 1, 3, [[1, 1, 2, 2]])], {}, "meta-malformed"),
    "an odd number": ([annotation(5, 1, 3, [[1, 1, 2, 2, 3, 3, 4]])], {}, "meta-malformed"),
    "a number that is none": ([annotation(5, 1, 3, [[1, 1, 2, 2, 3, "x"]])], {}, "meta-malformed"),
    "runs of another size": ([annotation(5, 1, 3, runs(np.ones((3, 3), bool)))], {}, "meta-malformed"),
    "runs that do not add up": ([annotation(5, 1, 3, {"size": list(SIZE), "counts": [3]})], {}, "meta-malformed"),
    "runs that are cut off": ([annotation(5, 1, 3, {"size": list(SIZE), "counts": "0`"})], {}, "meta-malformed"),
    "runs of other letters": ([annotation(5, 1, 3, {"size": list(SIZE), "counts": "\u00fc~~"})], {}, "meta-malformed"),
    "runs beyond the image": ([annotation(5, 1, 3, {"size": list(SIZE), "counts": "0oo1"})], {}, "meta-malformed"),
    "a point that is no number": ([annotation(5, 1, 3, [[1, 1, 2, 2, 3, float("nan")]])], {}, "meta-malformed"),
    "a category of another kind": ([annotation(5, 1, [3], [rect(0, 0, 2, 2)])], {}, "meta-malformed"),  # type: ignore
    "an id beyond reason": (None, {"categories": [{"id": float("inf"), "name": "a"}]}, "meta-malformed"),
    "a name that no file has": (
        None, {"images": [{"id": 1, "file_name": "a\0.png", "height": 6, "width": 8}]}, "meta-malformed"),
    "a category that is none": ([annotation(5, 1, 4, [rect(0, 0, 2, 2)])], {}, "meta-malformed"),
    "an image that is none": (None, {"images": []}, "meta-malformed"),
    "an image without a size": (None, {"images": [{"id": 1, "file_name": "train.png"}]}, "meta-malformed"),
    "a path that leads out": (
        None, {"images": [{"id": 1, "file_name": "../../x.png", "height": 6, "width": 8}]}, "meta-malformed"),
    "a path from the root": (
        None, {"images": [{"id": 1, "file_name": "/etc/x.png", "height": 6, "width": 8}]}, "meta-malformed"),
    "a name that is too long": (
        None, {"images": [{"id": 1, "file_name": "a" * 5000, "height": 6, "width": 8}]}, "image-missing"),
    "an outline without end": ([annotation(5, 1, 3, [[0, 0, 9e5, 9e5] * 500])], {}, "meta-malformed"),
    "an image that is not there": (
        None, {"images": [{"id": 1, "file_name": "x.png", "height": 6, "width": 8}]}, "image-missing"),
    "another size": (
        None, {"images": [{"id": 1, "file_name": "train.png", "height": 6, "width": 9}]}, "mask-size-differs"),
    "a class twice": (None, {"categories": [{"id": 3, "name": "a"}, {"id": 7, "name": "a"}]}, "meta-class-twice"),
    "no categories": (None, {"categories": []}, "meta-malformed"),
    "no list of images": (None, {"images": 3}, "meta-malformed"),
}  # fmt: skip


@pytest.mark.parametrize("case", COCO_FAULTS)
def test_coco_error_names_the_file(tmp_path: Path, case: str) -> None:
    annotations, more, slug = COCO_FAULTS[case]
    coco(tmp_path, annotations, **more)
    (tmp_path / "annotations" / "instances_val.json").unlink()
    assert slug in slugs(tmp_path, "coco_instances")


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"images": []}', "[" * 100_000, "\x00"])
def test_invalid_coco_json_is_reported(tmp_path: Path, text: str) -> None:
    coco(tmp_path)
    (tmp_path / "annotations" / "instances_train.json").write_text(text)
    found = check_data(tmp_path, "coco_instances").errors
    assert found and all(d.path and d.help for d in found)


def test_unwritable_mask_cache_is_reported(tmp_path: Path, own_cache: Path) -> None:
    coco(tmp_path)
    (own_cache / "masks").write_text("a file")
    with pytest.raises(SegError) as caught:
        opened(tmp_path)
    assert {d.slug for d in caught.value.diagnostics} == {"cache-not-written"}


def test_folders_use_the_program_classes(tmp_path: Path) -> None:
    folders(tmp_path)
    index = opened(tmp_path, classes=CLASSES)
    assert index.classes == CLASSES and np.array_equal(mask_of(index, "train"), MASKS["a"])
    assert slugs(tmp_path) == ["meta-missing"]
    assert slugs(tmp_path, classes=CLASSES[:2]) == ["mask-value-out-of-range"]


@pytest.mark.parametrize("format", [f for f in TREES if f != "folders"])
def test_digest_is_independent_of_the_location(tmp_path: Path, format: str) -> None:
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        TREES[format](tmp_path / place)
    assert opened(tmp_path / "one").digest == opened(tmp_path / "two").digest
    assert check_data(tmp_path / "one", format).digest == check_data(tmp_path / "two", format).digest != ""


REAL = {
    "crackforest": ("voc_segmentation", {"background": 97.656, "crack": 1.608}, 0.736, 79),
    "nuclei": ("coco_instances", {"background": 83.566, "nucleus": 16.434}, 0.0, 83),
}


@pytest.mark.parametrize("name", REAL)
def test_real_dataset_has_the_published_class_shares(name: str) -> None:
    if not SHARED.is_dir():
        pytest.skip("the shared folder with real images is not there")
    format, shares, void, images = REAL[name]
    report = check_data(SHARED / name, "auto")
    assert report.format == format and not report.errors and report.subsets["train"] == images
    counts = report.pixels["train"]
    got = {label: round(100 * int(counts[k]) / int(counts.sum()), 3) for k, label in enumerate(report.classes)}
    assert got == shares and round(100 * int(counts[255]) / int(counts.sum()), 3) == void
