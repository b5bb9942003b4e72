"""Where the files of plain folders are: `data.images`, `data.masks`, additions to names, and the layouts of others."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segdsl.data.check.checker import check_data
from segdsl.data.formats.layout import Request, parse_patterns
from segdsl.ir.file_pattern import FilePattern, parse_file_pattern

CLASSES = ("ground", "object")


def write_pair(image: Path, mask: Path | None = None) -> None:
    rng = np.random.default_rng(list(image.name.encode()))
    for path, pixels in ((image, rng.integers(0, 255, (8, 8, 3))), (mask, rng.integers(0, 2, (8, 8)))):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(path)


def check(root: Path, images: str = "images", masks: str = "masks", format: str = "auto") -> tuple[int, list[str]]:
    report = check_data(root, format, Request(None, classes=CLASSES, patterns=parse_patterns(images, masks)))
    return report.items, [finding.slug for finding in report.errors]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gt", FilePattern("gt")),
        ("labels/fine", FilePattern("labels/fine")),
        ("masks/{subset}", FilePattern("masks/{subset}")),
        ("{name}_mask.png", FilePattern("default", "", "_mask.png")),
        ("./{name}_mask", FilePattern(".", "", "_mask")),
        ("{subset}/gt/m_{name}", FilePattern("{subset}/gt", "m_", "")),
    ],
)
def test_a_pattern_is_a_folder_and_a_name(text: str, expected: FilePattern) -> None:
    assert parse_file_pattern(text, "default") == expected


@pytest.mark.parametrize(
    "text", ["", " ", "/masks", "../masks", "a\\b", "{id}.png", "{name", "{name}/x", "{name}{name}", "{subset}_{name}"]
)
def test_other_patterns_are_rejected(text: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        parse_file_pattern(text, "default")


@pytest.mark.parametrize(
    ("image", "mask", "images", "masks"),
    [
        ("{s}/images/{n}.png", "{s}/masks/{n}.png", "images", "masks"),
        ("{s}/images/{n}.jpg", "{s}/masks/{n}_mask.png", "images", "{name}_mask.png"),
        ("{s}/images/{n}_rgb.png", "{s}/masks/m_{n}.png", "{name}_rgb", "m_{name}"),
        ("images/{s}/{n}.png", "masks/{s}/{n}.png", "images", "masks"),
        ("img_dir/{s}/{n}.jpg", "ann_dir/{s}/{n}.png", "images", "masks"),
        ("x/{s}_v1/im/{n}.jpg", "y/{s}_v1/{n}.png", "x/{subset}_v1/im", "y/{subset}_v1"),
        ("{s}/{n}.jpg", "{s}/{n}_mask.png", ".", "./{name}_mask.png"),
        ("{s}/{n}.png", "{s}/{n}.seg.png", ".", "./{name}.seg.png"),
    ],
)
def test_images_and_masks_are_paired(tmp_path: Path, image: str, mask: str, images: str, masks: str) -> None:
    for subset in ("train", "val"):
        for name in ("a", "b"):
            write_pair(tmp_path / image.format(s=subset, n=name), tmp_path / mask.format(s=subset, n=name))
    assert check(tmp_path, images, masks, "folders") == (4, [])


def test_a_mask_among_images_that_is_missing_is_named(tmp_path: Path) -> None:
    write_pair(tmp_path / "train" / "a.jpg", tmp_path / "train" / "a_mask.png")
    write_pair(tmp_path / "train" / "b.jpg")
    found = check_data(
        tmp_path, "folders", Request(None, classes=CLASSES, patterns=parse_patterns(".", "./{name}_mask.png"))
    )
    assert [(d.slug, "b_mask.png" in d.message) for d in found.errors] == [("mask-missing", True)]


@pytest.mark.parametrize(
    ("image", "mask", "setting"),
    [
        ("{}.jpg", "{}_mask.png", 'data.masks = "{name}_mask.png"'),
        ("{}.jpg", "gt-{}.png", 'data.masks = "gt-{name}.png"'),
        ("{}_0000.png", "{}.png", 'data.images = "{name}_0000.png"'),
    ],
)
def test_an_addition_to_names_is_seen(tmp_path: Path, image: str, mask: str, setting: str) -> None:
    for k in "ab":
        write_pair(tmp_path / "train/images" / image.format(k), tmp_path / "train/masks" / mask.format(k))
    report = check_data(tmp_path, "folders", Request(None, classes=CLASSES))
    (found,) = report.errors
    assert (found.slug, setting in found.help) == ("names-differ", True), found.help


def write_yolo(root: Path) -> None:
    write_pair(root / "images/train/a.jpg")
    (root / "labels/train").mkdir(parents=True)
    (root / "labels/train/a.txt").write_text("0 0.1 0.1 0.5 0.1 0.5 0.5\n")


def write_labelme(root: Path) -> None:
    write_pair(root / "a.jpg")
    (root / "a.json").write_text(json.dumps({"shapes": [], "imagePath": "a.jpg"}))


def write_nnunet(root: Path) -> None:
    write_pair(root / "imagesTr/c_0000.png", root / "labelsTr/c.png")


def write_roboflow(root: Path) -> None:
    write_pair(root / "train/a.jpg", root / "train/a_mask.png")
    (root / "train/_classes.csv").write_text("Pixel Value, Class\n0, ground\n")


@pytest.mark.parametrize("write", [write_yolo, write_labelme, write_nnunet, write_roboflow])
def test_the_layout_of_another_tool_is_named(
    tmp_path: Path, write: Callable[[Path], None], wording: Callable[..., None]
) -> None:
    write(tmp_path)
    (found,) = check_data(tmp_path, "auto", Request(None)).errors
    assert found.slug == "data-layout-unknown"
    assert check_data(tmp_path, "common_semantic_segmentation", Request(None)).errors == [found]
    wording(f"{found.message}\n{found.help}\n")


def write_voc(root: Path, names: list[str], lines: list[str]) -> None:
    for name in names:
        write_pair(root / "JPEGImages" / f"{name}.jpg", root / "SegmentationClass" / f"{name}.png")
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    (root / "ImageSets/Segmentation/train.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (root / "labelmap.txt").write_text("ground:0,0,0::\nobject:1,1,1::\n")


@pytest.mark.parametrize("form", ["{}", '"{}"', "{} 1", '"{}" -1', "  {}  "])
def test_names_of_voc_may_have_blanks_and_subfolders(tmp_path: Path, form: str) -> None:
    names = ["plain", "my photo", "ещё фото 2", "deep/er/photo"]
    write_voc(tmp_path, names, [form.format(name) for name in names])
    report = check_data(tmp_path, "voc_segmentation", Request(None))
    assert (report.items, report.errors) == (4, [])


def test_names_of_voc_may_be_written_on_windows(tmp_path: Path) -> None:
    write_voc(tmp_path, ["deep/photo", "b"], ["deep\\photo", "b.jpg"])
    report = check_data(tmp_path, "voc_segmentation", Request(None))
    assert (report.items, report.errors) == (2, [])


@pytest.mark.parametrize(
    "name",
    ["a.jpg", "images\\train\\a.jpg", "images/train/a.jpg", "train\\a.jpg", "C:\\Users\\Ann\\a.jpg"],
)
def test_paths_in_coco_may_be_written_on_windows(tmp_path: Path, name: str) -> None:
    write_pair(tmp_path / "images" / "train" / "a.jpg")
    (tmp_path / "annotations").mkdir()
    shape = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[1, 1, 6, 1, 6, 6]], "iscrowd": 0}
    content = {
        "images": [{"id": 1, "file_name": name, "height": 8, "width": 8}],
        "categories": [{"id": 1, "name": "object"}],
        "annotations": [shape],
    }
    (tmp_path / "annotations" / "instances_train.json").write_text(json.dumps(content))
    report = check_data(tmp_path, "coco_instances", Request(None))
    assert (report.items, report.errors) == (1, [])
