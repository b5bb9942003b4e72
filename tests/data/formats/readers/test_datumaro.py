"""Datumaro's own format, on datasets exported by Datumaro, intact and damaged."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from segdsl.data.augment.lazy import read_sample
from segdsl.data.check.checker import check_data
from segdsl.data.check.index import open_index
from segdsl.data.decode.masks import read_mask
from segdsl.data.findings import Findings
from segdsl.data.formats.layout import Layout, Request
from segdsl.data.formats.readers.datumaro import ELLIPSE_POINTS, detect_datumaro, read_datumaro
from segdsl.data.formats.registry import detect_format
from segdsl.diagnostics import SegError

SIZE = (6, 8)
LABELS = ("crack", "dent")


def rect(left: float, top: float, right: float, bottom: float) -> list[float]:
    return [left, top, right, top, right, bottom, left, bottom]


def filled(*boxes: tuple[int, int, int, int, int], fill: int = 0) -> np.ndarray:
    """A mask of boxes (left, top, right, bottom, id), later ones on top."""
    mask = np.full(SIZE, fill, np.uint8)
    for left, top, right, bottom, label in boxes:
        mask[top:bottom, left:right] = label
    return mask


@pytest.fixture(scope="module")
def dm() -> Iterator[Any]:
    """The Datumaro package, with its logging silenced."""
    logging.disable(logging.CRITICAL)
    import datumaro
    import datumaro.components.annotation as annotation

    yield {"dm": datumaro, **vars(annotation)}
    logging.disable(logging.NOTSET)


def export(dm: Any, root: Path, shapes: list[Any], labels: tuple[str, ...] = LABELS, **options: Any) -> None:
    """Export two items with Datumaro: `a` has ``shapes``, `b` a mask of label 0 over the whole image."""
    from datumaro.components.dataset import Dataset
    from datumaro.components.dataset_base import DatasetItem
    from datumaro.components.media import Image as Media

    whole = [dm["Mask"](np.ones(SIZE, bool), label=0)]
    items = [
        DatasetItem(name, subset=subset, media=Media.from_numpy(np.zeros((*SIZE, 3), np.uint8)), annotations=drawn)
        for name, subset, drawn in (("a", "train", shapes), ("b", "val", whole))
    ]
    Dataset.from_iterable(items, categories=list(labels)).export(str(root), "datumaro", save_media=True, **options)


def read(root: Path, background: str | None = "background", **asked: Any) -> tuple[Layout, Findings]:
    found: Findings = []
    return read_datumaro(root, Request(background=background, **asked), found), found


def mask_of(layout: Layout, subset: str = "train") -> np.ndarray:
    return read_mask(layout.subsets[subset].get_mask_path(0))


def slugs(found: Findings) -> list[str]:
    return sorted({d.slug for d in found})


def content(root: Path, subset: str = "train") -> Any:
    return json.loads((root / "annotations" / f"{subset}.json").read_text())


def rewrite(root: Path, change: Callable[[Any], object], subset: str = "train") -> None:
    """Change the JSON file of a subset in place."""
    read = content(root, subset)
    change(read)
    (root / "annotations" / f"{subset}.json").write_text(json.dumps(read))


def test_datumaro_export_is_detected_and_read(dm: Any, tmp_path: Path) -> None:
    ring = np.zeros(SIZE, bool)
    ring[0:3, 0:3] = True
    ring[1, 1] = False
    export(dm, tmp_path, [dm["Polygon"](rect(3, 1, 7, 4), label=1), dm["Mask"](ring, label=0)])
    assert detect_format(tmp_path) == "datumaro"
    layout, found = read(tmp_path)
    assert not found and layout.labels is not None and layout.labels.classes == ("background", *LABELS)
    expected = filled((3, 1, 7, 4, 2), (0, 0, 3, 3, 1), (1, 1, 2, 2, 0))
    assert np.array_equal(mask_of(layout), expected) and np.array_equal(mask_of(layout, "val"), filled(fill=1))
    assert layout.subsets["train"].list_item_ids() == ["a"] and layout.subsets["train"].get_image_path(0).is_file()


@pytest.mark.parametrize(
    ("background", "labels", "classes", "free", "first"),
    [
        ("void", LABELS, LABELS, 255, 0),
        ("wall", LABELS, ("wall", *LABELS), 0, 1),
        ("dent", LABELS, LABELS, 1, 0),
        (None, ("crack", "Background"), ("crack", "Background"), 1, 0),
        ("void", ("crack", "background"), ("crack", "background"), 255, 0),
    ],
)
def test_pixels_without_annotation_get_the_background(
    dm: Any, tmp_path: Path, background: str, labels: tuple[str, ...], classes: tuple[str, ...], free: int, first: int
) -> None:
    export(dm, tmp_path, [dm["Polygon"](rect(1, 1, 5, 4), label=0)], labels)
    layout, found = read(tmp_path, background)
    assert not found and layout.labels is not None and layout.labels.classes == classes
    assert np.array_equal(mask_of(layout), filled((1, 1, 5, 4, first), fill=free))


def test_ignored_pixels_get_the_ignore_value(dm: Any, tmp_path: Path) -> None:
    export(dm, tmp_path, [dm["Polygon"](rect(1, 1, 5, 4), label=0)])
    assert set(np.unique(mask_of(read(tmp_path, "void", ignore=9)[0]))) == {0, 9}
    assert set(np.unique(mask_of(read(tmp_path, "void", ignore=200)[0]))) == {0, 200}


def test_undefined_background_is_an_error(dm: Any, tmp_path: Path) -> None:
    export(dm, tmp_path, [dm["Polygon"](rect(1, 1, 5, 4), label=0)])
    rewrite(tmp_path, lambda c: c["items"].append({**c["items"][0], "id": "z", "image": {"path": "z.png"}}))
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(tmp_path / "images" / "train" / "z.png")
    for _ in range(2):
        (error,) = check_data(tmp_path, "auto").errors
        assert error.slug == "background-unsaid" and error.path == str(tmp_path / "annotations" / "train.json")
        assert "`a`" in error.message
        assert '`data.background = "background"`' in error.help and '"void"' in error.help
    with pytest.raises(SegError, match="background-unsaid"):
        open_index(tmp_path, "datumaro", Request(["train"]))
    assert open_index(tmp_path, "datumaro", Request(["val"])).classes == LABELS


def test_program_and_check_read_the_same(dm: Any, tmp_path: Path) -> None:
    export(dm, tmp_path, [dm["Polygon"](rect(1, 1, 5, 4), label=1)], ("background", "crack"))
    report = check_data(tmp_path, "auto")
    assert report.format == "datumaro" and not report.errors and report.items == 2
    assert report.pixels["train"][:2].tolist() == [36, 12]
    assert open_index(tmp_path, "auto", Request(["train", "val"])).classes == ("background", "crack")


SHAPES = st.lists(
    st.tuples(
        st.sampled_from(["Polygon", "Mask", "Ellipse"]), st.integers(0, 5), st.integers(0, 3), st.integers(2, 4),
        st.integers(2, 4), st.integers(0, 1), st.integers(-1, 2),
    ),
    min_size=1, max_size=6,
)  # fmt: skip


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shapes=SHAPES)
def test_overlapping_shapes_match_datumaro(
    dm: Any, tmp_path_factory: pytest.TempPathFactory, shapes: list[tuple[Any, ...]]
) -> None:
    from datumaro.plugins.transforms import PolygonsToMasks

    drawn, root = [], tmp_path_factory.mktemp("set")
    for kind, x, y, width, height, label, order in shapes:
        box = (x, y, min(x + width, 8), min(y + height, 6))
        form = filled((*box, 1)).astype(bool) if kind == "Mask" else rect(*box)
        drawn.append(dm[kind](*(box if kind == "Ellipse" else (form,)), label=label, z_order=order))
    export(dm, root, drawn)
    masks = [m if isinstance(m, dm["Mask"]) else PolygonsToMasks.convert_polygon(m, *SIZE) for m in drawn]
    expected = np.full(SIZE, 255, np.uint8)
    for mask in sorted(masks, key=lambda m: m.z_order):
        expected[mask.image.astype(bool)] = mask.label  # pyright: ignore[reportCallIssue, reportArgumentType]
    assert np.array_equal(mask_of(read(root, "void", subsets=["train"])[0]), expected)


def test_shapes_without_z_order_are_painted_as_in_coco(dm: Any, tmp_path: Path) -> None:
    export(dm, tmp_path, [dm["Polygon"](rect(2, 2, 4, 4), label=1), dm["Polygon"](rect(0, 0, 8, 6), label=0)])
    assert mask_of(read(tmp_path)[0]).max() == 1
    rewrite(tmp_path, lambda c: [a.pop("z_order") for a in c["items"][0]["annotations"]])
    assert np.array_equal(mask_of(read(tmp_path)[0]), filled((2, 2, 4, 4, 2), fill=1).clip(1))


def test_annotations_without_area_give_one_warning(dm: Any, tmp_path: Path) -> None:
    shapes = [dm["Bbox"](0, 0, 2, 2, label=0), dm["Bbox"](1, 1, 2, 2, label=0), dm["Caption"]("a wall")]
    export(dm, tmp_path, [*shapes, dm["Polygon"](rect(1, 1, 5, 4), label=0)])
    layout, (warning,) = read(tmp_path, "void")
    assert (warning.slug, warning.severity) == ("annotation-unused", "warning")
    assert "2 `bbox`, 1 `caption`" in warning.message and warning.path == str(layout.meta_files[0])
    assert np.array_equal(mask_of(layout), filled((1, 1, 5, 4, 0), fill=255))


def test_size_defaults_to_that_of_the_image_file(dm: Any, tmp_path: Path) -> None:
    export(dm, tmp_path, [dm["Polygon"](rect(1, 1, 5, 4), label=0)])
    rewrite(tmp_path, lambda c: c["items"][0]["image"].pop("size"))
    assert mask_of(read(tmp_path)[0]).shape == SIZE
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(tmp_path / "images" / "train" / "a.jpg")
    assert mask_of(read(tmp_path)[0]).shape == (9, 9)


def test_images_may_be_in_the_subset_folder_or_above(dm: Any, tmp_path: Path) -> None:
    export(dm, tmp_path, [dm["Polygon"](rect(1, 1, 5, 4), label=0)])
    images = tmp_path / "images"
    (images / "train" / "a.jpg").rename(images / "a.jpg")
    assert read(tmp_path)[0].subsets["train"].get_image_path(0) == images / "a.jpg"
    (images / "deep").mkdir()
    (images / "a.jpg").rename(images / "deep" / "a.jpg")
    rewrite(tmp_path, lambda c: c["items"][0]["image"].update(path="deep/a.jpg"))
    layout, found = read(tmp_path)
    assert not found and mask_of(layout).shape == SIZE and layout.subsets["train"].list_item_ids() == ["a"]


def test_masks_are_rasterized_once_per_background(dm: Any, tmp_path: Path, own_cache: Path) -> None:
    def drawn() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in (own_cache / "masks").rglob("*.png")}

    export(dm, tmp_path, [dm["Polygon"](rect(1, 1, 5, 4), label=0)])
    read(tmp_path)
    first = drawn()
    read(tmp_path)
    assert drawn() == first and len(first) == 2
    read(tmp_path, "void")
    assert len(drawn()) == 4


def test_subsets_with_equal_files_have_separate_masks(dm: Any, tmp_path: Path) -> None:
    export(dm, tmp_path, [dm["Polygon"](rect(1, 1, 5, 4), label=0)])
    (tmp_path / "annotations" / "val.json").write_text((tmp_path / "annotations" / "train.json").read_text())
    (tmp_path / "images" / "val" / "b.jpg").rename(tmp_path / "images" / "val" / "a.jpg")
    layout, found = read(tmp_path)
    assert not found and np.array_equal(mask_of(layout), mask_of(layout, "val"))


def test_ellipses_match_datumaro(dm: Any) -> None:
    from segdsl.data.formats.readers.datumaro import trace_ellipse

    assert np.allclose(trace_ellipse([1, 2, 7, 5]), dm["Ellipse"](1, 2, 7, 5).as_polygon(ELLIPSE_POINTS))  # type: ignore
    assert trace_ellipse([1, 2, 7]) is None and trace_ellipse([1, 2, 7, "x"]) is None


def test_coco_and_datumaro_are_distinguished_by_content(dm: Any, tmp_path: Path) -> None:
    export(dm, tmp_path, [])
    for path in (tmp_path / "annotations").iterdir():
        path.rename(path.with_name(f"instances_{path.name}"))
    assert detect_format(tmp_path) == "datumaro"
    coco = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}]}
    (tmp_path / "annotations" / "instances_train.json").write_text(json.dumps(coco))
    (tmp_path / "annotations" / "instances_val.json").write_text(json.dumps(coco))
    assert detect_format(tmp_path) == "coco_instances" and not detect_datumaro(tmp_path)


def of_item(**change: Any) -> Callable[[Path], object]:
    return lambda root: rewrite(root, lambda c: c["items"][0].update(change))


def of_image(**change: Any) -> Callable[[Path], object]:
    return lambda root: rewrite(root, lambda c: c["items"][0]["image"].update(change))


def of_shape(**change: Any) -> Callable[[Path], object]:
    return lambda root: rewrite(root, lambda c: c["items"][0]["annotations"][0].update(change))


def of_text(text: str) -> Callable[[Path], object]:
    return lambda root: (root / "annotations" / "train.json").write_text(text)


def labelled(*names: Any) -> Callable[[Path], object]:
    labels = [{"name": name, "parent": "", "attributes": []} for name in names]
    return lambda root: rewrite(root, lambda c: c["categories"]["label"].update(labels=labels))


def again(**change: Any) -> Callable[[Path], object]:
    return lambda root: rewrite(root, lambda c: c["items"].append({**c["items"][0], **change}))


def outside(root: Path) -> None:
    """Replace the image with a link to a file outside the dataset."""
    path = root / "images" / "train" / "a.jpg"
    path.rename(root.parent / "elsewhere.jpg")
    path.symlink_to(root.parent / "elsewhere.jpg")


def runs(counts: object, size: object = SIZE) -> Callable[[Path], object]:
    return of_shape(type="mask", rle={"counts": counts, "size": size})


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no JSON": (of_text("{"), "meta-malformed"),
    "an empty file": (of_text(""), "data-file-empty"),
    "nested beyond reason": (of_text("[" * 100_000), "meta-malformed"),
    "COCO's text": (of_text('{"images": [], "annotations": [], "categories": []}'), "meta-malformed"),
    "a list": (of_text("[]"), "meta-malformed"),
    "items that are none": (lambda root: rewrite(root, lambda c: c.update(items=[3])), "meta-malformed"),
    "annotations that are none": (of_item(annotations=[3]), "meta-malformed"),
    "annotations of no kind": (of_item(annotations=[{"label_id": 0}]), "meta-malformed"),
    "a kind that is no text": (of_shape(type=3), "meta-malformed"),
    "an id that is no text": (of_item(id=3), "meta-malformed"),
    "no items": (lambda root: rewrite(root, lambda c: c.update(items=[])), "subset-empty"),
    "no labels": (labelled(), "meta-malformed"),
    "a label without a name": (labelled(" "), "meta-malformed"),
    "a label of another kind": (labelled(3), "meta-malformed"),
    "a label twice": (labelled("crack", "crack"), "meta-class-twice"),
    "more labels than a mask holds": (labelled(*map(str, range(300))), "meta-malformed"),
    "other labels in one subset": (labelled("crack", "stain"), "meta-differs"),
    "an item twice": (again(), "name-twice"),
    "a picture twice": (again(id="other"), "name-twice"),
    "no image": (lambda root: rewrite(root, lambda c: c["items"][0].pop("image")), "image-missing"),
    "a picture that is not there": (lambda root: (root / "images/train/a.jpg").unlink(), "image-missing"),
    "a name that is too long": (of_image(path="a" * 5000), "image-missing"),
    "a name of half a letter": (of_image(path="\ud800.jpg"), "image-missing"),
    "a path that leads out": (of_image(path="../../etc/x.png"), "meta-malformed"),
    "a path from the root": (of_image(path="/etc/x.png"), "meta-malformed"),
    "a path of no name": (of_image(path="."), "meta-malformed"),
    "a path with a zero": (of_image(path="a\0.jpg"), "meta-malformed"),
    "a path of another kind": (of_image(path=3), "meta-malformed"),
    "a picture that is none": (lambda root: (root / "images/train/a.jpg").write_text("no"), "image-unknown"),
    "a link that leads out": (outside, "data-link-outside"),
    "another size": (of_image(size=[6, 9]), "mask-size-differs"),
    "a size beyond reason": (of_image(size=[10**6, 10**6]), "meta-malformed"),
    "a size below zero": (of_image(size=[-6, -8]), "meta-malformed"),
    "a size of one": (of_image(size=[6]), "meta-malformed"),
    "a size of texts": (of_image(size=["6", "8"]), "meta-malformed"),
    "a line": (of_shape(points=[1, 1, 2, 2]), "meta-malformed"),
    "an odd number": (of_shape(points=[1, 1, 2, 2, 3, 3, 4]), "meta-malformed"),
    "no points": (of_shape(points=None), "meta-malformed"),
    "a point that is no number": (of_shape(points=[1, 1, 2, 2, 3, float("nan")]), "meta-malformed"),
    "points beyond reason": (of_shape(points=[0, 0, 1e30, 0, 1, 1]), "meta-malformed"),
    "an outline without end": (of_shape(points=[0, 0, 9e5, 9e5] * 500), "meta-malformed"),
    "a polygon outside": (of_shape(points=rect(8, 1, 12, 4)), "annotation-outside"),
    "an ellipse outside": (of_shape(type="ellipse", points=[-9, 0, -1, 5]), "annotation-outside"),
    "an ellipse of three": (of_shape(type="ellipse", points=[1, 1, 5]), "meta-malformed"),
    "runs of another size": (runs([9], [3, 3]), "meta-malformed"),
    "runs that do not add up": (runs([3]), "meta-malformed"),
    "runs of other letters": (runs("\u00fc~~"), "meta-malformed"),
    "no runs": (of_shape(type="mask", rle=None), "meta-malformed"),
    "a label that is none": (of_shape(label_id=2), "meta-malformed"),
    "no label": (of_shape(label_id=None), "meta-malformed"),
    "an order that is none": (of_shape(z_order="top"), "meta-malformed"),
}


@pytest.fixture(scope="module")
def sound(dm: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A valid dataset, to be copied."""
    root = tmp_path_factory.mktemp("sound") / "set"
    export(dm, root, [dm["Polygon"](rect(1, 1, 5, 4), label=0)])
    return root


@pytest.mark.parametrize("case", FAULTS)
def test_error_names_the_file(sound: Path, tmp_path: Path, case: str) -> None:
    root = tmp_path / "set"
    shutil.copytree(sound, root)
    spoil, slug = FAULTS[case]
    spoil(root)
    found: Findings = []
    try:
        read_datumaro(root, Request(("train", "val"), background="void"), found)
    except SegError as error:
        found.extend(error.diagnostics)
    assert slug in slugs(found) and len(found) <= 2
    assert all(d.path and d.path.startswith(str(root)) and d.message and d.help for d in found)


def test_valid_dataset_has_no_findings(sound: Path) -> None:
    assert read(sound, "void")[1] == []


def test_errors_disappear_once_fixed(sound: Path, tmp_path: Path) -> None:
    root = tmp_path / "set"
    shutil.copytree(sound, root)
    picture = root / "images" / "train" / "a.jpg"
    picture.rename(tmp_path / "a.jpg")
    assert "image-missing" in slugs(read(root)[1])
    (tmp_path / "a.jpg").rename(picture)
    layout, found = read(root)
    assert not found and mask_of(layout).shape == SIZE


def test_program_sets_background_and_merges_classes(dm: Any, tmp_path: Path) -> None:
    export(dm, tmp_path, [dm["Polygon"](rect(1, 1, 5, 4), label=1)])
    asked = Request(["train", "val"], background="wall", merges=[(LABELS, "damage")])
    index = open_index(tmp_path, "auto", asked)
    assert index.classes == ("wall", "damage") and not check_data(tmp_path, "auto", asked).errors
    assert np.array_equal(read_sample(index, index.get_subset("train"), 0).mask, filled((1, 1, 5, 4, 1)))
