"""Every kind of bad data gives its diagnostic, with the file's name; valid data gives none."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import segdsl.data.check.facts
from segdsl.data.check.checker import CheckReport, ProgressCallback, check_data
from segdsl.data.check.index import open_index
from segdsl.data.formats.layout import Request
from segdsl.diagnostics import SegError

SHARED = Path(__file__).resolve().parents[3].parent / "shared" / "data"
FORMAT = "common_semantic_segmentation"


def edit_meta(path: Path, change: Callable[[dict], object]) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def edit_mask(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    Image.fromarray(change(np.array(Image.open(path)))).save(path)


def cut(path: Path, keep: float) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])


def marked(mask: np.ndarray, value: int) -> np.ndarray:
    mask[5, 5] = value
    return mask


KEY_TWICE = '{"label_map": {"0": "road", "0": "lane", "1": "car", "2": "sky"}}'
Break = Callable[[Path], object]
BROKEN: list[tuple[str, str, Break]] = [
    ("data-root-missing", "", lambda r: shutil.rmtree(r)),
    ("data-root-empty", "", lambda r: (shutil.rmtree(r), r.mkdir())),
    ("data-root-not-folder", "", lambda r: (shutil.rmtree(r), r.write_text("x"))),
    ("data-layout-unknown", "", lambda r: (shutil.rmtree(r), (r / "pictures").mkdir(parents=True))),
    ("subset-single", "", lambda r: shutil.rmtree(r / "val")),
    ("subset-empty", "val", lambda r: [p.unlink() for k in ("images", "masks") for p in (r / "val" / k).iterdir()]),
    ("data-folder-missing", "train/masks", lambda r: shutil.rmtree(r / "train" / "masks")),
    ("data-nested", "train/images/deep", lambda r: (r / "train" / "images" / "deep").mkdir()),
    ("mask-missing", "train/images/b.png", lambda r: (r / "train/masks/b.png").unlink()),
    ("image-missing", "train/masks/b.png", lambda r: (r / "train/images/b.png").unlink()),
    ("names-differ", "train", lambda r: [p.rename(p.with_stem(p.stem + "_gt")) for p in (r / "train/masks").iterdir()]),
    ("name-twice", "train/images/b.png", lambda r: shutil.copy(r / "train/images/b.png", r / "train/images/b.bmp")),
    ("mask-format", "train/masks/b.jpg", lambda r: (r / "train/masks/b.png").rename(r / "train/masks/b.jpg")),
    ("data-file-missing", "train/images/b.png", lambda r: relink(r / "train/images/b.png", "/no/such/file")),
    ("data-file-missing", "train/images/b.png", lambda r: relink(r / "train/images/b.png", "b.png")),
    ("data-file-empty", "train/images/b.png", lambda r: (r / "train/images/b.png").write_bytes(b"")),
    ("image-unknown", "train/images/b.png", lambda r: (r / "train/images/b.png").write_text("hello")),
    ("image-truncated", "train/images/b.png", lambda r: cut(r / "train/images/b.png", 0.7)),
    ("image-truncated", "train/masks/b.png", lambda r: cut(r / "train/masks/b.png", 0.7)),
    ("mask-depth", "val/masks/d.png", lambda r: edit_mask(r / "val/masks/d.png", lambda m: m.astype(np.uint16))),
    ("mask-color-unknown", "val/masks/d.png", lambda r: edit_mask(r / "val/masks/d.png", lambda m: np.dstack([m] * 3))),
    ("mask-value-out-of-range", "val/masks/d.png", lambda r: edit_mask(r / "val/masks/d.png", lambda m: marked(m, 3))),
    ("mask-size-differs", "val/masks/d.png", lambda r: edit_mask(r / "val/masks/d.png", lambda m: m[:-1])),
    ("meta-missing", "val/dataset_meta.json", lambda r: (r / "val/dataset_meta.json").unlink()),
    ("meta-malformed", "val/dataset_meta.json", lambda r: (r / "val/dataset_meta.json").write_text("{'a': 1}")),
    ("meta-malformed", "val/dataset_meta.json", lambda r: (r / "val/dataset_meta.json").write_text("[]")),
    ("meta-malformed", "val/dataset_meta.json", lambda r: (r / "val/dataset_meta.json").write_text(KEY_TWICE)),
    ("meta-malformed", "val/dataset_meta.json", lambda r: (r / "val/dataset_meta.json").write_bytes(b"\xff\xfe\x00")),
]  # fmt: skip


def relink(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


def checked(root: Path, progress: ProgressCallback | None = None, **options: object) -> CheckReport:
    return check_data(root, request=Request(["train", "val"], **options), progress=progress)  # type: ignore[arg-type]


def slugs(report: CheckReport) -> list[str]:
    return [d.slug for d in report.errors]


def test_sound_data_has_no_findings(tree: Path) -> None:
    report = checked(tree)
    assert (report.errors, report.warnings, report.items) == ([], [], 5)
    assert report.subsets == {"train": 3, "val": 2} and report.classes == ("road", "car", "sky")
    assert report.pixels["train"].sum() == 3 * 24 * 32 and report.pixels["val"][255] == 2 * 4
    report.raise_errors()


@pytest.mark.parametrize(("slug", "where", "damage"), BROKEN, ids=[f"{b[0]} {b[1]}" for b in BROKEN])
def test_bad_data_gives_one_error_naming_the_file(tree: Path, slug: str, where: str, damage: Break) -> None:
    damage(tree)
    report = checked(tree)
    assert slugs(report) == [slug]
    (found,) = report.errors
    assert found.path == str(tree / where) and found.message and found.help
    with pytest.raises(SegError) as caught:
        report.raise_errors()
    assert caught.value.diagnostics == (found,)


@pytest.mark.parametrize(("slug", "where", "damage"), BROKEN, ids=[f"{b[0]} {b[1]}" for b in BROKEN])
def test_opening_bad_data_either_reports_it_or_leaves_it_to_the_check(
    tree: Path, slug: str, where: str, damage: Break
) -> None:
    damage(tree)
    try:
        open_index(tree, FORMAT, Request(["train", "val"]))
    except SegError as error:
        assert [d.slug for d in error.diagnostics] == [slug]
        assert error.diagnostics[0].path == str(tree / where)
    else:
        assert slug in (
            "image-truncated",
            "image-unknown",
            "data-file-empty",
            "mask-size-differs",
            "mask-depth",
            "mask-value-out-of-range",
        )


LABELS: list[tuple[str, Callable[[dict], object]]] = [
    ("meta-keys-shuffled", lambda m: m.update(label_map={"1": "road", "2": "car", "3": "sky"})),
    ("meta-keys-shuffled", lambda m: m.update(label_map={"0": "road", "2": "sky", "1": "car"})),
    ("meta-class-twice", lambda m: m["label_map"].update({"2": "car"})),
    ("color-twice", lambda m: m.update(segmentation_colors=[[0, 0, 0]] * 3)),
    ("meta-malformed", lambda m: m.update(segmentation_colors=[[0, 0, 0]])),
    ("meta-malformed", lambda m: m.update(segmentation_colors=[[0, 0, 256], [1, 1, 1], [2, 2, 2]])),
    ("meta-malformed", lambda m: m.pop("label_map")),
    ("meta-malformed", lambda m: m.update(label_map={})),
    ("meta-malformed", lambda m: m.update(label_map={"0": 7, "1": "car", "2": "sky"})),
    ("meta-malformed", lambda m: m.update(labels=["car", "road", "sky"])),
]


@pytest.mark.parametrize(("slug", "change"), LABELS)
def test_ambiguous_label_space_is_rejected(tree: Path, slug: str, change: Callable[[dict], object]) -> None:
    for subset in ("train", "val"):
        edit_meta(tree / subset / "dataset_meta.json", change)
    assert set(slugs(checked(tree))) == {slug}


def test_differing_label_spaces_are_rejected(tree: Path) -> None:
    edit_meta(tree / "val" / "dataset_meta.json", lambda m: m["label_map"].update({"1": "van"}))
    report = checked(tree)
    assert slugs(report) == ["meta-differs"] and all(n in report.errors[0].message for n in ("`van`", "`car`"))


def test_colors_are_optional_and_labels_may_be_a_list(tree: Path) -> None:
    for subset in ("train", "val"):
        (tree / subset / "dataset_meta.json").write_text('{"labels": ["road", "car", "sky"]}', encoding="utf-8")
    report = checked(tree)
    assert not report.errors and report.classes == ("road", "car", "sky")
    assert open_index(tree, FORMAT, Request(["train"])).labels.colors == ()


def test_program_classes_must_match_the_dataset(tree: Path) -> None:
    assert not checked(tree, classes=["road", "car", "sky"]).errors
    assert slugs(checked(tree, classes=["car", "road", "sky"])) == ["classes-differ"]


def test_bad_mask_value_is_reported_with_its_count(tree: Path) -> None:
    assert "3 (1 px)" in broken_value(tree, ignore=255)
    report = checked(tree, ignore=3)
    assert set(slugs(report)) == {"mask-value-out-of-range"} and "255 (4 px)" in report.errors[0].message


def broken_value(tree: Path, ignore: int) -> str:
    edit_mask(tree / "val/masks/d.png", lambda m: marked(m, 3))
    (found,) = checked(tree, ignore=ignore).errors
    return found.message


def test_black_and_white_masks_are_rejected(tree: Path) -> None:
    two = {"label_map": {"0": "background", "1": "crack"}}
    for subset in ("train", "val"):
        (tree / subset / "dataset_meta.json").write_text(json.dumps(two), encoding="utf-8")
        for path in (tree / subset / "masks").iterdir():
            edit_mask(path, lambda m: np.where(m == 1, 255, 0).astype(np.uint8))
    assert slugs(checked(tree)) == ["mask-0-255"]


WARNED: list[tuple[str, str, Break]] = [
    ("data-file-unused", "train/images", lambda r: (r / "train/images/notes.txt").write_text("x")),
    ("data-link-outside", "train/images/b.png", lambda r: out_and_link(r, "train/images/b.png")),
    ("image-twice", "val/images/d.png", lambda r: shutil.copy(r / "train/images/a.png", r / "val/images/d.png")),
    ("mask-all-void", "val/masks/d.png", lambda r: edit_mask(r / "val/masks/d.png", lambda m: m * 0 + 255)),
    ("class-absent", "val", lambda r: [edit_mask(p, without_sky) for p in (r / "val/masks").iterdir()]),
    ("image-depth", "val/images/d.png", lambda r: deepen(r / "val/images/d.png")),
    ("image-turned", "val/images/d.png", lambda r: turn(r / "val/images/d.png", 3)),
]  # fmt: skip


def out_and_link(root: Path, name: str) -> None:
    moved = root.parent / "elsewhere.png"
    (root / name).rename(moved)
    (root / name).symlink_to(moved)


def without_sky(mask: np.ndarray) -> np.ndarray:
    return np.where(mask == 2, 0, mask).astype(np.uint8)


def deepen(path: Path) -> None:
    Image.fromarray(np.ones((24, 32), np.uint16)).save(path)


def turn(path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.open(path).save(path, exif=exif)


@pytest.mark.parametrize(("slug", "where", "change"), WARNED, ids=[w[0] for w in WARNED])
def test_possibly_intended_data_gives_a_warning(tree: Path, slug: str, where: str, change: Break) -> None:
    change(tree)
    report = checked(tree)
    assert not report.errors
    beside = "image-modes-mixed"  # what is of 16 bits is grey among colours, too
    assert [(d.slug, d.path) for d in report.warnings if d.slug != beside] == [(slug, str(tree / where))]


def test_mask_without_exif_rotation_is_recognized(tree: Path) -> None:
    turn(tree / "val/images/d.png", 6)
    report = checked(tree)
    assert slugs(report) == ["mask-size-differs"] and "EXIF" in report.errors[0].message


def test_all_independent_errors_are_reported_at_once(tree: Path) -> None:
    cut(tree / "train/images/a.png", 0.5)
    (tree / "train/masks/b.png").unlink()
    edit_mask(tree / "val/masks/d.png", lambda m: marked(m, 9))
    assert set(slugs(checked(tree))) == {"image-truncated", "mask-missing", "mask-value-out-of-range"}


@pytest.mark.skipif(os.geteuid() == 0, reason="the root user may read everything")
def test_unreadable_file_is_named(tree: Path) -> None:
    (tree / "val/images/d.png").chmod(0)
    assert slugs(checked(tree)) == ["data-file-unreadable"]


def test_progress_counts_every_pair(tree: Path) -> None:
    calls: list[tuple[int, int]] = []
    checked(tree, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(i, 5) for i in range(1, 6)]


def test_facts_are_cached_until_a_file_changes(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[str] = []
    original = segdsl.data.check.facts.decode_image
    monkeypatch.setattr(
        segdsl.data.check.facts,
        "decode_image",
        lambda data, path, how: (decoded.append(Path(path).name), original(data, path))[1],
    )
    first = checked(tree)
    assert sorted(decoded) == ["a.png", "b.png", "c.png", "d.png", "e.png"]
    decoded.clear()
    again = checked(tree)
    assert decoded == [] and again.digest == first.digest and (again.pixels["val"] == first.pixels["val"]).all()
    Image.fromarray(np.zeros((24, 32, 3), dtype=np.uint8)).save(tree / "val/images/e.png")
    assert checked(tree).digest != first.digest and decoded == ["e.png"]


def test_changed_colors_invalidate_cached_facts(tree: Path) -> None:
    colors = np.array([[128, 64, 128], [0, 0, 142], [70, 130, 180]], dtype=np.uint8)
    edit_mask(tree / "val/masks/d.png", lambda m: colors[m % 3])
    assert not checked(tree).errors
    for subset in ("train", "val"):
        edit_meta(
            tree / subset / "dataset_meta.json",
            lambda m: m.update(segmentation_colors=[[1, 1, 1], [2, 2, 2], [3, 3, 3]]),
        )
    assert slugs(checked(tree)) == ["mask-color-unknown"]


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data")
def test_camvid_small_matches_its_readme() -> None:
    report = check_data(SHARED / "camvid_small")
    assert not report.errors and report.items == 36
    share = 100 * report.pixels["train"] / report.pixels["train"].sum()
    assert share[:3].round(3).tolist() == [18.364, 22.342, 0.902] and share[255].round(3) == 3.549
