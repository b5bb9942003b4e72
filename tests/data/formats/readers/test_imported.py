"""The formats that Datumaro imports: small datasets in each layout, the cache, and training."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import segdsl
from segdsl.data.check.checker import check_data
from segdsl.data.check.index import Index, open_index
from segdsl.data.formats import datumaro_import
from segdsl.data.formats.layout import Request
from segdsl.data.formats.readers import imported
from segdsl.data.loading.dataset import EvalDataset
from segdsl.diagnostics import SegError
from segdsl.ir.data_format import DATA_FORMATS
from segdsl.words.imported_formats import list_imported_formats, strip_prefix

SIZE = (24, 32)
LABELS = ("background", "crack")
BOTH = Request(["train", "val"])
EXPORTED = (
    "camvid",
    "coco_panoptic",
    "coco_stuff",
    "cvat",
    "label_me",
    "mots",
    "open_images",
    "voc_instance_segmentation",
)
"""The layouts that Datumaro can write as well."""
LEFT_OUT = {
    # Ours: `segdsl/words/formats.py` has a reader of its own.
    "ade20k", "cityscapes", "coco_instances", "common_semantic_segmentation",
    "common_semantic_segmentation_with_subset_dirs", "datumaro", "kitti_segmentation", "mapillary_vistas",
    "voc_segmentation",
    # Several tasks in one folder, of which Datumaro takes one: each has a name of its own.
    "coco", "voc", "kitti", "mapillary_vistas_instances", "mapillary_vistas_panoptic", "mmdet_coco", "mvtec",
    # Areas without classes, volumes, and images that are packed into other files.
    "icdar_text_segmentation", "segment_anything", "brats", "brats_numpy", "arrow", "datumaro_binary", "synthia_al",
    # Boxes, points, labels, text, tables, point clouds and video.
    "align_celeba", "ava", "celeba", "cifar", "coco_captions", "coco_image_info", "coco_labels",
    "coco_person_keypoints", "dota", "icdar_text_localization", "icdar_word_recognition", "image_dir", "image_zip",
    "imagenet", "imagenet_txt", "imagenet_with_subset_dirs", "kinetics", "kitti3d", "kitti_detection", "kitti_raw",
    "lfw", "market1501", "mars", "mnist", "mnist_csv", "mot_seq", "mpii", "mpii_json", "mvtec_classification",
    "mvtec_detection", "nyu_depth_v2", "roboflow_create_ml", "roboflow_multiclass", "roboflow_voc", "roboflow_yolo",
    "roboflow_yolo_obb", "sly_pointcloud", "tabular", "vgg_face2", "video_frames", "video_keyframes", "voc_action",
    "voc_classification", "voc_detection", "voc_layout", "vott_csv", "vott_json", "wider_face", "yolo",
}  # fmt: skip


def draw_crack(shift: int) -> np.ndarray:
    """A mask of a rectangle."""
    mask = np.zeros(SIZE, bool)
    mask[4:14, 5 + shift : 20] = True
    return mask


def draw_photo(mask: np.ndarray, seed: int) -> np.ndarray:
    """An image in which the mask can be learned."""
    noise = np.random.default_rng(seed).integers(0, 60, (*SIZE, 3))
    return (np.where(mask[..., None], 190, 20) + noise).astype(np.uint8)


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def export_layout(root: Path, name: str) -> None:
    """Write four images, two in each subset, with Datumaro's own exporter."""
    from datumaro.components.annotation import Annotation, AnnotationType, LabelCategories, Mask, MaskCategories
    from datumaro.components.dataset import Dataset
    from datumaro.components.dataset_base import DatasetItem
    from datumaro.components.media import Image as Media

    def make_items() -> Iterator[Any]:
        for subset in ("train", "val"):
            for shift in range(2):
                crack = draw_crack(shift)
                more = [{"is_crowd": False, "box_id": f"0000000{k}", "track_id": k} for k in (1, 2)]
                areas: list[Annotation] = [
                    Mask(area, label=k, id=k + 1, group=k + 1, attributes=more[k])
                    for k, area in enumerate((~crack, crack))
                ]
                image = Media.from_numpy(draw_photo(crack, shift))
                yield DatasetItem(f"{subset}_{shift}", subset=subset, media=image, annotations=areas)

    colors = MaskCategories({0: (0, 0, 0), 1: (200, 10, 10)})
    categories = {AnnotationType.label: LabelCategories.from_iterable(LABELS), AnnotationType.mask: colors}
    dataset = Dataset.from_iterable(list(make_items()), categories=categories)
    dataset.export(str(root), {"mots": "mots_png"}.get(name, name), save_media=True)


@pytest.fixture(scope="module")
def layouts(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Path], Path]:
    """Copies a dataset in a layout into a folder; each layout is written once."""
    written: dict[str, Path] = {}

    def copy(name: str, target: Path) -> Path:
        if name not in written:
            written[name] = tmp_path_factory.mktemp(name) / "set"
            export_layout(written[name], name)
        return shutil.copytree(written[name], target / "set")

    return copy


@pytest.fixture
def camvid(layouts: Callable[[str, Path], Path], tmp_path: Path) -> Path:
    """A dataset in the layout of CamVid."""
    return layouts("camvid", tmp_path)


def opened(root: Path, name: str = "camvid") -> Index:
    return open_index(root, f"datumaro:{name}", BOTH)


def raised_slugs(call: Callable[[], object]) -> list[str]:
    with pytest.raises(SegError) as caught:
        call()
    return [d.slug for d in caught.value.diagnostics]


@pytest.mark.parametrize("name", EXPORTED)
def test_layout_that_datumaro_writes(name: str, layouts: Callable[[str, Path], Path], tmp_path: Path) -> None:
    root = layouts(name, tmp_path)
    report = check_data(root, f"datumaro:{name}", BOTH)
    assert report.errors == [] and {d.slug for d in report.warnings} <= {"image-twice"}
    assert report.classes == LABELS and report.subsets == {"train": 2, "val": 2}
    samples = EvalDataset(opened(root, name), "val")
    for shift in range(2):
        image, mask = samples[shift]
        assert image.shape == (*SIZE, 3) and np.array_equal(mask, draw_crack(shift))


def write_roboflow(root: Path) -> None:
    for subset in ("train", "valid"):
        save(root / subset / "a.jpg", draw_photo(draw_crack(0), 0))
        content = {
            "categories": [{"id": k + 1, "name": name, "supercategory": ""} for k, name in enumerate(LABELS)],
            "images": [{"id": 1, "file_name": "a.jpg", "height": SIZE[0], "width": SIZE[1]}],
            "annotations": [
                {"id": 1, "image_id": 1, "category_id": 2, "iscrowd": 0, "bbox": [5, 4, 15, 10], "area": 150,
                 "segmentation": [[5, 4, 20, 4, 20, 14, 5, 14]]}
            ],
        }  # fmt: skip
        (root / subset / "_annotations.coco.json").write_text(json.dumps(content), encoding="utf-8")


def write_synthia_rand(root: Path) -> None:
    save(root / "RGB" / "a.png", draw_photo(draw_crack(0), 0))
    (root / "GTTXT").mkdir()
    np.savetxt(root / "GTTXT" / "a.txt", draw_crack(0).astype(int) + 1, fmt="%d")


def write_synthia_sf(root: Path) -> None:
    save(root / "RGBLeft" / "a.png", draw_photo(draw_crack(0), 0))
    save(root / "GTLeft" / "a.png", np.where(draw_crack(0)[..., None], (128, 64, 128), (0, 0, 0)).astype(np.uint8))


def write_mvtec(root: Path) -> None:
    save(root / "test" / "crack" / "0.png", draw_photo(draw_crack(0), 0))
    save(root / "ground_truth" / "crack" / "0_mask.png", draw_crack(0).astype(np.uint8) * 255)


def write_ade20k(root: Path) -> None:
    crack = draw_crack(0)
    for subset in ("training", "validation"):
        folder = root / subset / "street"
        save(folder / "a.jpg", draw_photo(crack, 0))
        instances = np.where(crack, 2, 1)
        instances[0] = 0
        save(folder / "a_seg.png", np.stack([crack * 10, crack * 0, instances], axis=-1).astype(np.uint8))
        (folder / "a_atr.txt").write_text('001 # 0 # 0 # sky # sky # ""\n002 # 0 # 0 # door # door # ""\n')


def write_ade20k_of_2020(root: Path) -> None:
    crack = draw_crack(0)
    for subset in ("training", "validation"):
        save(root / subset / "street" / "a.jpg", draw_photo(crack, 0))
        classes = np.where(crack, 2, 1)
        classes[0] = 0
        seg = np.stack([crack * 0, classes, crack * 0], axis=-1).astype(np.uint8)
        save(root / subset / "street" / "a_seg.png", seg)
        objects = []
        for number, name in enumerate(("sky", "door"), 1):
            save(root / subset / "street" / "a" / f"instance_{number}.png", (seg[..., 1] == number) * np.uint8(255))
            objects.append({
                "id": number, "name_ndx": number, "raw_name": name, "name": name, "attributes": [], "crop": 0,
                "parts": {"part_level": 0}, "polygon": {"x": [], "y": []}, "occluded": "no",
                "instance_mask": f"a/instance_{number}.png",
            })  # fmt: skip
        text = json.dumps({"annotation": {"object": objects}})
        (root / subset / "street" / "a.json").write_text(text, encoding="utf-8")


WRITTEN: dict[str, tuple[Callable[[Path], None], str, dict[str, int]]] = {
    "roboflow_coco": (write_roboflow, "train", {"background": 618, "crack": 150}),
    "synthia_rand": (write_synthia_rand, "default", {"Sky": 618, "Building": 150}),
    "synthia_sf": (write_synthia_sf, "default", {"Void": 618, "Road": 150}),
    "mvtec_segmentation": (write_mvtec, "test", {"background": 618, "crack": 150}),
    "ade20k2017": (write_ade20k, "train", {"background": 32, "sky": 586, "door": 150}),
    "ade20k2020": (write_ade20k_of_2020, "train", {"background": 32, "sky": 586, "door": 150}),
}
"""Layouts that Datumaro only reads: who writes them here, a subset, and its pixels by class."""


@pytest.mark.parametrize("name", WRITTEN)
def test_layout_that_datumaro_only_reads(name: str, tmp_path: Path) -> None:
    write, subset, pixels = WRITTEN[name]
    write(tmp_path)
    report = check_data(tmp_path, f"datumaro:{name}", Request([subset], background="background"))
    # Labels that no image has are part of these formats.
    assert report.errors == []
    found = {report.classes[k]: int(n) for k, n in enumerate(report.pixels[subset]) if n}
    assert found == pixels


def test_every_importer_is_a_format_or_left_out() -> None:
    from datumaro.components.environment import Environment

    ours = {strip_prefix(record.name) for record in list_imported_formats()}
    known = set(Environment().importers)
    assert ours <= known and not ours & LEFT_OUT
    assert known <= ours | LEFT_OUT, "a new importer: make it a format, or leave it out"
    assert ours == {*EXPORTED, *WRITTEN}, "every format is tested"


def test_import_happens_once_until_a_file_changes(camvid: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    imports: list[str] = []
    real = imported.import_dataset

    def import_dataset(root: Path, name: str, sizes: Any) -> Any:
        imports.append(name)
        return real(root, name, sizes)

    monkeypatch.setattr(imported, "import_dataset", import_dataset)
    first = opened(camvid)
    assert check_data(camvid, "datumaro:camvid", BOTH).errors == [] and opened(camvid).digest == first.digest
    assert imports == ["camvid"]
    mask = next((camvid / "valannot").glob("*_0.png"))
    save(mask, np.zeros((*SIZE, 3), np.uint8))
    changed = opened(camvid)
    assert imports == ["camvid"] * 2 and changed.digest != first.digest
    assert not EvalDataset(changed, "val")[0].mask.any()


def test_copy_has_the_same_digest(camvid: Path) -> None:
    assert opened(shutil.copytree(camvid, camvid.parent / "copy")).digest == opened(camvid).digest


def test_second_open_does_not_load_datumaro(camvid: Path) -> None:
    opened(camvid)
    source = (
        "import sys; from segdsl.data.check.index import open_index; from segdsl.data.formats.layout import Request;"
        f"open_index({str(camvid)!r}, 'datumaro:camvid', Request(['train'])); print('datumaro' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_damaged_cache_is_made_again(camvid: Path, own_cache: Path) -> None:
    opened(camvid)
    for file in own_cache.rglob("index.json"):
        file.write_text("[", encoding="utf-8")
    assert opened(camvid).classes == LABELS


def test_missing_image_is_reported(camvid: Path) -> None:
    next((camvid / "train").glob("*_0.jpg")).unlink()
    assert [d.slug for d in check_data(camvid, "datumaro:camvid", BOTH).errors] == ["image-missing"]


def test_areas_that_leave_pixels_need_a_background(tmp_path: Path) -> None:
    write_mvtec(tmp_path)
    (error,) = check_data(tmp_path, "datumaro:mvtec_segmentation", Request(["test"])).errors
    assert error.slug == "background-unsaid"


def test_boxes_alone_are_reported(tmp_path: Path) -> None:
    write_roboflow(tmp_path)
    file = tmp_path / "train" / "_annotations.coco.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    content["annotations"][0]["segmentation"] = []
    file.write_text(json.dumps(content), encoding="utf-8")
    report = check_data(tmp_path, "datumaro:roboflow_coco", Request(["train"]))
    assert "annotation-unused" in {d.slug for d in report.warnings}


@pytest.mark.parametrize("counts", [[5, 2000], [-1, 769], "~~~~", [768, 1]])
def test_run_lengths_are_checked_before_they_are_decoded(tmp_path: Path, counts: Any) -> None:
    """pycocotools would write past the end of the mask."""
    write_roboflow(tmp_path)
    file = tmp_path / "train" / "_annotations.coco.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    content["annotations"][0]["segmentation"] = {"size": list(SIZE), "counts": counts}
    file.write_text(json.dumps(content), encoding="utf-8")
    assert raised_slugs(lambda: open_index(tmp_path, "datumaro:roboflow_coco", Request(["train"]))) == [
        "meta-malformed"
    ]


def test_wrong_format_is_an_error_without_traceback(camvid: Path) -> None:
    # Its index in the cache belongs to the format that it was made for.
    opened(camvid)
    assert raised_slugs(lambda: opened(camvid, "coco_panoptic")) == ["import-failed"]
    assert raised_slugs(lambda: opened(camvid, "label_me")) == ["import-failed"]


def test_what_datumaro_logs_is_a_warning(
    layouts: Callable[[str, Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the sizes of the images, this importer leaves out the masks, and only logs it."""
    monkeypatch.setattr(datumaro_import, "TAKES_IMAGE_SIZES", frozenset())
    report = check_data(layouts("open_images", tmp_path), "datumaro:open_images", BOTH)
    assert "import-incomplete" in {d.slug for d in report.warnings}


PROGRAM = """seg 1

model Tiny(classes: int) {
  in image: [B, 3, H, W]

  head = image -> Conv(classes, 1x1)
  out logits: [B, classes, H, W] = head
}

data {
  root       = "set"
  format     = "datumaro:camvid"
  input_size = 24x32

  train.workers = 0
  val.workers   = 0
}

model = Tiny(classes = len(data.classes))

train {
  loss      = CrossEntropy()
  optimizer = AdamW(lr = 5e-2)
  epochs    = 1
}
"""


@pytest.mark.parametrize("name", ["camvid", "coco_panoptic", "open_images", "label_me"])
def test_imported_format_trains(
    name: str, layouts: Callable[[str, Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    layouts(name, tmp_path)
    (tmp_path / "tiny.seg").write_text(PROGRAM.replace("camvid", name), encoding="utf-8")
    assert segdsl.check("tiny.seg").data.format == f"datumaro:{name}"
    run = segdsl.train("tiny.seg", quiet=True, device="cpu", out="run")
    assert 0 <= run.best["dice"] <= 1
    kept = (tmp_path / "run" / "program.seg").read_text(encoding="utf-8")
    assert f'"datumaro:{name}"' in kept and segdsl.format(kept) == kept
    assert segdsl.evaluate("run", device="cpu")["images"] == 2


@pytest.mark.parametrize(
    "written", ['"datumaro:camvd"', '"datumaro:other"', "camvid", "camvit", '"pascal"', "datumaro.camvid"]
)
def test_unknown_importer_is_explained(written: str, tmp_path: Path, wording: Callable[..., None]) -> None:
    file = tmp_path / "tiny.seg"
    file.write_text(PROGRAM.replace('"datumaro:camvid"', written), encoding="utf-8")
    with pytest.raises(SegError) as caught:
        segdsl.check(file)
    wording("\n".join(f"{d.slug}: {d.message}\nhelp: {d.help}" for d in caught.value.diagnostics))


def test_record_of_every_imported_format_is_complete() -> None:
    for record in list_imported_formats():
        assert record.is_rasterized and record.setting_text == f'data.format = "{record.name}"'
        assert DATA_FORMATS[record.name] is record and record.layout and record.evidence
