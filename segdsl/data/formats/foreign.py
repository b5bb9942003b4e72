"""Layouts of other tools that no reader reads: how to recognize them, and what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


class ForeignLayout(NamedTuple):
    """What was found in a folder, and how to get its data read."""

    evidence: str
    help: str


class _Sign(NamedTuple):
    """Files that mark a layout: all glob patterns must match. ``describe`` takes the first match of the first one."""

    patterns: tuple[str, ...]
    describe: Callable[[str], ForeignLayout]


def _move_coco(file: str) -> ForeignLayout:
    return ForeignLayout(
        f"`{file}`, which looks like COCO",
        "move it to `annotations/instances_train.json`, and the images to `images/train`, for `data.format = "
        "coco_instances`;\nsplit off a second file, `annotations/instances_val.json`, for validation",
    )


def _convert_yolo(file: str) -> ForeignLayout:
    return ForeignLayout(
        f"text files such as `{file}`, which look like polygons of YOLO",
        "convert them to COCO (`annotations/instances_<subset>.json` and `images/<subset>`), or draw them into masks "
        "(`<subset>/images` and `<subset>/masks`)",
    )


_SIGNS = (
    _Sign(
        ("*/_classes.csv", "*/*_mask.png"),
        lambda file: ForeignLayout(
            f"`{file}` and masks `{{name}}_mask.png` beside the images, as Roboflow exports them",
            'set `data.format = folders`, `data.images = "."`, `data.masks = "./{name}_mask.png"`, and `data.classes` '
            "in the order of the file;\nfor `data` and `new`: `--format folders --images . --masks "
            "'./{name}_mask.png'`, and `--class NAME` for each class",
        ),
    ),
    _Sign(("labels/*/*.txt", "images/*"), _convert_yolo),
    _Sign(("labels/*.txt", "images/*"), _convert_yolo),
    _Sign(
        ("imagesTr", "labelsTr"),
        lambda _: ForeignLayout(
            "`imagesTr` and `labelsTr`, as nnU-Net has them",
            "copy a part of the images and labels into `train/images` and `train/masks`, the rest into `val/…`, and "
            'set `data.format = folders`, `data.images = "images/{name}_0000.png"`, and `data.classes`',
        ),
    ),
    _Sign(
        ("*.json", "*.jpg"),
        lambda file: ForeignLayout(
            f"annotations such as `{file}` beside the images, as labelme has them",
            "convert them with labelme's own `labelme2voc.py`, and set `data.format = voc_segmentation`",
        ),
    ),
    _Sign(("result.json",), _move_coco),
    _Sign(("annotations.json",), _move_coco),
    _Sign(("*coco*.json",), _move_coco),
    _Sign(
        ("data.yaml",),
        lambda file: ForeignLayout(
            f"`{file}`, which describes a dataset of Ultralytics",
            "give the folder that it names under `path`; its polygons must be converted to COCO",
        ),
    ),
)


def find_foreign_layout(root: Path) -> ForeignLayout | None:
    """Return which tool's layout a folder seems to have, or None."""
    for sign in _SIGNS:
        found = [min(root.glob(pattern), default=None) for pattern in sign.patterns]
        if all(found) and found[0] is not None:
            return sign.describe(found[0].relative_to(root).as_posix())
    return None
