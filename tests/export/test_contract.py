"""The contract with openvino-model-api, from a dataset to the names of contours, for polygons and masks."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from segdsl import verbs
from segdsl.inference.models import openvino_runtime
from segdsl.inference.models.opener import open_model
from segdsl.inference.preprocess import Mask

HEIGHT, WIDTH = 48, 64
PROGRAM = """
extends "std/semantic.seg"
import "std/blocks.seg"

model Colours(classes: int) {{
  in image: [B, 3, H, W]
  out logits: [B, classes, H, W] = image -> Conv(classes) as head
}}

data {{
  root       = "../data"
  format     = {format}
  classes    = {classes}
  {background}
  input_size = {height}x{width}
}}

model = Colours(classes = len(data.classes))
"""
SQUARES = {1: (8, 8, 12, 16), 2: (26, 30, 14, 20)}
"""Top, left, height and width of what has a class but 0."""


def ids() -> Mask:
    found = np.zeros((HEIGHT, WIDTH), np.uint8)
    for k, (top, left, height, width) in SQUARES.items():
        found[top : top + height, left : left + width] = k
    return found


def picture() -> np.ndarray:
    """Red where class 0 is, green where 1 is, blue where 2 is."""
    return np.eye(3, dtype=np.uint8)[ids()] * 255


def sees_colours(model: Any) -> None:
    model.head.weight.copy_(10 * torch.eye(3).view(3, 3, 1, 1))
    model.head.bias.zero_()


def write_polygons(root: Path, names: list[str]) -> None:
    for subset in ("train", "val"):
        (root / "images" / subset).mkdir(parents=True)
        Image.fromarray(picture()).save(root / "images" / subset / "a.png")
        shapes = []
        for k, (top, left, height, width) in SQUARES.items():
            x, y = left + width, top + height
            ring = [left, top, x, top, x, y, left, y]
            shapes.append({"id": k, "image_id": 1, "category_id": k, "segmentation": [ring], "iscrowd": 0})
        content = {
            "images": [{"id": 1, "file_name": "a.png", "height": HEIGHT, "width": WIDTH}],
            "categories": [{"id": k, "name": names[k]} for k in SQUARES],
            "annotations": shapes,
        }
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"instances_{subset}.json").write_text(json.dumps(content), encoding="utf-8")


def write_masks(root: Path, names: list[str]) -> None:
    for subset in ("train", "val"):
        for kind, content in (("images", picture()), ("masks", ids())):
            (root / subset / kind).mkdir(parents=True)
            Image.fromarray(content).save(root / subset / kind / "a.png")
        labels = {str(k): name for k, name in enumerate(names)}
        (root / subset / "dataset_meta.json").write_text(json.dumps({"label_map": labels}), encoding="utf-8")


def looked_at(xml: Path) -> tuple[dict[str, int], Mask]:
    """By openvino-model-api: the class that truly is where it finds a contour, by the name that it gives it; and its
    values of the pixels."""
    from model_api.models import SegmentationModel

    api: Any = SegmentationModel.create_model(str(xml), device="CPU")
    result = api(picture())
    found = api.get_contours(result)
    contours = {contour.label: int(ids()[tuple(contour.shape.reshape(-1, 2)[0][::-1])]) for contour in found}
    return contours, np.asarray(result.resultImage)


@pytest.fixture
def exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made_run: Any) -> Callable[[str, list[str]], Any]:
    """Write a dataset in a format and export a run on it."""
    monkeypatch.setenv("SEGDSL_CACHE", str(tmp_path / "cache"))

    def export(format: str, names: list[str], precision: str = "fp32", overrides: Sequence[str] = ()) -> Any:
        polygons = format == "coco_instances"
        (write_polygons if polygons else write_masks)(tmp_path / "data", names)
        background = f"background = {json.dumps(names[0])}" if polygons else ""
        classes = json.dumps(names)
        text = PROGRAM.format(format=format, classes=classes, background=background, height=HEIGHT, width=WIDTH)
        return verbs.export(made_run(tmp_path / "run", text, sees_colours), precision, overrides)

    return export


@pytest.mark.parametrize("format", ["coco_instances", "common_semantic_segmentation"])
@pytest.mark.parametrize("first", ["background", "metal"])
def test_contours_have_the_names_of_the_data_set(format: str, first: str, exported: Any) -> None:
    """The class that no polygon covers, and the class 0 of masks: `background` has no contours, another name has."""
    found = exported(format, [first, "disc", "leaf"])
    assert (found.certificate["source"], found.certificate["dice"]) == ("val", 1.0)
    wanted = {"metal": 0, "disc": 1, "leaf": 2} if first == "metal" else {"disc": 1, "leaf": 2}
    contours, values = looked_at(found.model)
    assert contours == wanted
    assert np.array_equal(values, ids() + (first == "metal"))
    assert np.array_equal(open_model(found.model).predict(picture()), ids())


@pytest.mark.parametrize("form", ["normalize = true", "size = dynamic"])
def test_other_forms_have_the_same_names(form: str, exported: Any) -> None:
    overrides = [f"export.openvino=OpenVINO({form})"]
    found = exported("common_semantic_segmentation", ["metal", "disc", "leaf"], overrides=overrides)
    assert looked_at(found.model)[0] == {"metal": 0, "disc": 1, "leaf": 2}


@pytest.mark.slow
def test_eight_bits_keep_the_empty_channel_empty(exported: Any) -> None:
    """Its logit is far from all others, and must not widen the range that 8 bits cover."""
    found = exported("common_semantic_segmentation", ["metal", "disc", "leaf"], "int8")
    assert found.certificate["dice"] == 1.0 and found.certificate["int8"]["layers_in_float"] == 0
    assert looked_at(found.model)[0] == {"metal": 0, "disc": 1, "leaf": 2}


def test_with_names_as_in_otx_every_contour_has_another_class(exported: Any, tmp_path: Path) -> None:
    xml = exported("common_semantic_segmentation", ["background", "disc", "leaf"]).model
    ir = openvino_runtime.read_model(xml)
    ir.set_rt_info("background disc leaf", ["model_info", "labels"])
    openvino_runtime.import_openvino().save_model(ir, tmp_path / "otx.xml", compress_to_fp16=False)
    assert looked_at(tmp_path / "otx.xml")[0] == {"background": 1, "disc": 2}, "the case that goes wrong"


def test_labels_omit_the_background_and_channels_do_not(exported: Any) -> None:
    xml = exported("coco_instances", ["background", "disc", "leaf"]).model
    info = {
        key: openvino_runtime.read_model(xml).get_rt_info(["model_info", key]).value for key in ("labels", "label_ids")
    }
    assert info == {"labels": "disc leaf", "label_ids": "1 2"}
    assert list(openvino_runtime.read_model(xml).outputs[0].shape) == [1, 3, HEIGHT, WIDTH]
