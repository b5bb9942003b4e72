"""Regression tests for traps found in a code review: each once silently mislabeled or misread data."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from segdsl.data.augment.lazy import read_sample
from segdsl.data.check.checker import check_data
from segdsl.data.check.index import open_index
from segdsl.data.decode.images import ReadOptions, decode_image
from segdsl.data.decode.masks import decode_mask
from segdsl.data.formats.layout import Request
from segdsl.diagnostics import SegError
from segdsl.ir.values import Range

COLORS = ((0, 0, 0), (128, 0, 0))
IDS = np.array([[0, 1, 255], [1, 0, 255]], np.uint8)
RGB16 = np.random.default_rng(0).integers(0, 65536, (6, 8, 3), np.uint16)


def palette_png(ids: np.ndarray, colors: list[int]) -> bytes:
    picture, buffer = Image.fromarray(ids).convert("P"), io.BytesIO()
    picture.putpalette(colors)
    picture.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("void", [(None,) * 253 + ((224, 224, 192),), ()])
def test_palette_padded_with_black_keeps_ignored_pixels(void: tuple) -> None:
    data = palette_png(IDS, [0, 0, 0, 128, 0, 0] + [0] * 762)
    assert (decode_mask(data, "a.png", (*COLORS, *void)) == IDS).all()
    swapped = palette_png(IDS, [128, 0, 0, 0, 0, 0] + [9] * 759 + [224, 224, 192])
    if void:
        assert (decode_mask(swapped, "a.png", (*COLORS, *void)) == np.where(IDS < 2, 1 - IDS, 255)).all()


def common(root: Path, masks: np.ndarray, colors: bool = False) -> None:
    for subset in ("train", "val"):
        for kind in ("images", "masks"):
            (root / subset / kind).mkdir(parents=True, exist_ok=True)
        content: dict = {"label_map": {"0": "ground", "1": "object"}}
        if colors:
            content["segmentation_colors"] = [list(c) for c in COLORS]
        (root / subset / "dataset_meta.json").write_text(json.dumps(content))
        Image.fromarray(np.zeros((*masks.shape[:2], 3), np.uint8)).save(root / subset / "images" / "a.png")
        Image.fromarray(masks).save(root / subset / "masks" / "a.png")


def test_values_are_rejected_for_color_masks(tmp_path: Path) -> None:
    common(tmp_path, np.array(COLORS, np.uint8)[np.array([[0, 1], [1, 1]])], colors=True)
    found = check_data(tmp_path, request=Request(["train"], values=[Range(1, 1), Range(0, 0)]))
    assert [d.slug for d in found.errors] == ["setting-without-effect"]
    assert [d.slug for d in check_data(tmp_path, request=Request(["train"], background="no class")).errors] == [
        "setting-without-effect"
    ]


def test_ignore_value_with_values_is_not_an_id(tmp_path: Path) -> None:
    common(tmp_path, np.array([[0, 10, 1], [0, 10, 10]], np.uint8))
    asked = Request(["train"], ignore=1, values=[Range(0, 0), Range(10, 10)])
    report = check_data(tmp_path, request=asked)
    assert report.errors == []
    assert report.pixels["train"][[0, 1, 255]].tolist() == [2, 3, 1]
    index = open_index(tmp_path, "common_semantic_segmentation", asked)
    assert index.ignore == 255
    assert read_sample(index, index.get_subset("train"), 0).mask.tolist() == [[0, 1, 255], [0, 1, 1]]
    plain = check_data(tmp_path, request=Request(["train"], ignore=1))
    assert "ignore-is-class" in [d.slug for d in plain.warnings]


def test_file_replaced_with_same_size_and_time_is_read_again(tmp_path: Path) -> None:
    common(tmp_path, np.zeros((4, 4), np.uint8))
    path = tmp_path / "train" / "masks" / "a.png"
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(path, compress_level=0)
    before = path.stat()
    assert check_data(tmp_path).pixels["train"][0] == 16
    data = bytearray(path.read_bytes())
    other = io.BytesIO()
    Image.fromarray(np.ones((4, 4), np.uint8)).save(other, "PNG", compress_level=0)
    assert len(other.getvalue()) == len(data)
    path.write_bytes(other.getvalue())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert check_data(tmp_path).pixels["train"][:2].tolist() == [0, 16]


def coco(root: Path, place: str) -> None:
    ring = [1, 1, 5, 1, 5, 4, 1, 4]
    (root / "annotations").mkdir(parents=True)
    (root / place).mkdir(parents=True)
    Image.fromarray(np.zeros((6, 8, 3), np.uint8)).save(root / place / "a.png")
    content = {
        "categories": [{"id": 1, "name": "thing"}],
        "images": [{"id": 1, "file_name": "a.png", "height": 6, "width": 8}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "segmentation": [ring]}],
    }
    (root / "annotations" / "instances_train.json").write_text(json.dumps(content))


@pytest.mark.parametrize("damage", ["unlink", "truncate"])
def test_missing_or_damaged_mask_is_rasterized_again(tmp_path: Path, own_cache: Path, damage: str) -> None:
    coco(tmp_path, "images/train")
    assert check_data(tmp_path, "auto").errors == []
    (mask,) = (own_cache / "masks").rglob("*.png")
    mask.unlink() if damage == "unlink" else mask.write_bytes(mask.read_bytes()[:40])
    report = check_data(tmp_path, "auto")
    assert report.errors == [] and report.pixels["train"][1] == 12


def test_default_format_suggests_the_detected_one(tmp_path: Path) -> None:
    coco(tmp_path, "images/train")
    (error,) = check_data(tmp_path).errors
    assert error.slug == "data-layout-unknown" and "`data.format = coco_instances`" in error.help


def test_label_map_with_duplicate_color_is_rejected(tmp_path: Path) -> None:
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "ImageSets/Segmentation/train.txt").write_text("a\n")
    Image.fromarray(np.zeros((2, 3, 3), np.uint8)).save(tmp_path / "JPEGImages/a.png")
    (tmp_path / "SegmentationClass/a.png").write_bytes(palette_png(IDS, [0, 0, 0, 128, 0, 0, 9, 9, 9, 7, 7, 7]))
    text = "background:0,0,0::\nfoo:128,0,0::\nbar:{}::\nignored:224,224,192::\nvoid:9,9,9::\n"
    (tmp_path / "labelmap.txt").write_text(text.format("128,0,0"))
    assert [d.slug for d in check_data(tmp_path, "voc_segmentation").errors] == ["color-twice"]
    (tmp_path / "labelmap.txt").write_text(text.format("0,128,0"))
    (tmp_path / "SegmentationClass/a.png").write_bytes(palette_png(IDS, [0, 0, 0, 9, 9, 9] + [224, 224, 192] * 254))
    report = check_data(tmp_path, "voc_segmentation")
    assert [d.slug for d in report.errors] == []
    assert report.pixels["train"][[0, 255]].tolist() == [2, 4], "void may have two colours"


def encoded(*pages: tuple[np.ndarray, dict]) -> bytes:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        for samples, options in pages:
            writer.write(samples, **{"photometric": "minisblack", "metadata": None, **options})
    return buffer.getvalue()


GREY = np.arange(48, dtype=np.uint8).reshape(6, 8)
THUMB = (GREY[:2, :2].copy(), {"subfiletype": 1})
FOUR = np.random.default_rng(1).integers(0, 256, (6, 8, 4), np.uint8)
TABLE = np.random.default_rng(2).integers(0, 256, (3, 256), np.uint8).astype(np.uint16) * 257
RIGHT = {
    "a thumbnail in front": (encoded(THUMB, (GREY, {})), 1, GREY[:, :, None]),
    "a thumbnail behind": (encoded((GREY, {}), THUMB), 1, GREY[:, :, None]),
    "white is zero": (encoded((255 - GREY, {"photometric": "miniswhite"}), THUMB), 1, GREY[:, :, None]),
    "white is zero, 16 bits": (
        encoded((65535 - GREY.astype(np.uint16) * 257, {"photometric": "miniswhite"})), 1, GREY[:, :, None]),
    "a palette and a thumbnail": (
        encoded((GREY, {"photometric": "palette", "colormap": TABLE}), THUMB), 3,
        (TABLE.T[GREY] >> 8).astype(np.uint8)),
    "four bands": (encoded((FOUR, {"photometric": "rgb", "extrasamples": ["unspecified"]})), 4, FOUR),
    "opacity": (encoded((FOUR, {"photometric": "rgb", "extrasamples": ["unassalpha"]})), 3, FOUR[:, :, :3]),
    "grey and opacity": (
        encoded((FOUR[:, :, :2], {"extrasamples": ["unassalpha"], "planarconfig": "contig"})), 1, FOUR[:, :, :1]),
    "turned, 16 bits": (
        encoded((RGB16, {"photometric": "rgb", "extratags": [(274, "H", 1, 6, True)]})), 3,
        np.rot90(RGB16 >> 8, -1).astype(np.uint8)),
}  # fmt: skip


@pytest.mark.parametrize("name", RIGHT)
def test_tiff_is_decoded_correctly(name: str) -> None:
    data, channels, expected = RIGHT[name]
    assert (decode_image(data, "a.tif", ReadOptions(channels)).pixels == expected).all()


def test_16_bit_png_is_rotated_and_scaled() -> None:
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((6, 8, 3), np.uint8)).save(buffer, "PNG", exif=exif)
    import cv2

    plain = cv2.imencode(".png", RGB16[..., ::-1])[1].tobytes()
    start = buffer.getvalue().index(b"eXIf") - 4
    length = int.from_bytes(buffer.getvalue()[start : start + 4], "big")
    data = plain[:33] + buffer.getvalue()[start : start + 12 + length] + plain[33:]
    picture = decode_image(data, "a.png", ReadOptions(3, Range(0, 65535)))
    assert picture.orientation == 6 and picture.mode == "16 bits x 3"
    assert np.abs(picture.pixels.astype(int) - np.rot90(RGB16 / 257, -1)).max() <= 1


@pytest.mark.parametrize("samples", [np.full((6, 8), np.nan, np.float32), GREY.astype(np.int16)], ids=["nan", "signed"])
def test_values_without_range_are_rejected(samples: np.ndarray) -> None:
    with pytest.raises(SegError) as caught:
        decode_image(encoded((samples, {})), "a.tif")
    assert caught.value.diagnostics[0].slug == "image-depth-unknown"


def test_channels_count_toward_the_size_limit() -> None:
    buffer = io.BytesIO()
    shape = (2048, 2048, 100)
    tifffile.imwrite(
        buffer, np.zeros(shape, np.uint8), photometric="minisblack", planarconfig="contig", compression="zlib"
    )
    with pytest.raises(SegError) as caught:
        decode_image(buffer.getvalue(), "a.tif", ReadOptions(None))
    assert caught.value.diagnostics[0].slug == "image-too-large"


def test_levels_beyond_the_depth_give_a_warning(tmp_path: Path) -> None:
    common(tmp_path, np.array([[0, 1], [1, 1]], np.uint8))
    report = check_data(tmp_path, request=Request(read_options=ReadOptions(3, Range(0, 4095))))
    assert "image-depth" in [d.slug for d in report.warnings]
