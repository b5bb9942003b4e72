"""The index: both layouts, order, subsets, and the cross-check with Datumaro."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segdsl.data.check import facts
from segdsl.data.check.index import MAX_ERRORS, Index, open_index, truncate_errors
from segdsl.data.formats.layout import Request
from segdsl.data.loading.dataset import EvalDataset
from segdsl.diagnostics import Diagnostic, SegError

FORMAT = "common_semantic_segmentation"
SHARED = Path(__file__).resolve().parents[3].parent / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data")


def opened(root: Path, *subsets: str) -> Index:
    return open_index(root, FORMAT, Request(subsets or ("train", "val")))


def only_error(root: Path, *subsets: str) -> Diagnostic:
    with pytest.raises(SegError) as caught:
        opened(root, *subsets)
    (found,) = caught.value.diagnostics
    return found


def test_subsets_are_sorted_by_id(tree: Path) -> None:
    index = opened(tree)
    assert index.classes == ("road", "car", "sky") and index.labels.colors[1] == (0, 0, 142)
    train = index.get_subset("train")
    assert train.list_item_ids() == ["a", "b", "c"] and len(train) == 3 and len(index.get_subset("val")) == 2
    assert train.get_image_path(2) == tree / "train" / "images" / "c.png"
    assert train.get_mask_path(0) == tree / "train" / "masks" / "a.png"
    assert train.images.dtype.kind == "S"


def test_flat_layout_has_one_subset_named_default(tree: Path) -> None:
    index = opened(tree / "train", "default")
    assert index.get_subset("default").list_item_ids() == ["a", "b", "c"]


def test_a_single_subset_is_to_be_split(tree: Path) -> None:
    shutil.copytree(tree / "train", tree.parent / "flat")
    with pytest.raises(SegError) as caught:
        opened(tree.parent / "flat")
    found = caught.value.diagnostics
    assert [d.slug for d in found] == ["subset-single"]
    assert "`val`" in found[0].help and '"default"' not in found[0].help


def test_root_one_level_too_deep_is_recognized(tree: Path) -> None:
    with pytest.raises(SegError) as caught:
        opened(tree / "train")
    assert f"`{tree}`" in caught.value.diagnostics[0].help


def test_root_one_level_too_high_is_recognized(tree: Path) -> None:
    found = only_error(tree.parent)
    assert found.slug == "data-layout-unknown" and f"`{tree}`" in found.help


def test_similar_subset_is_suggested(tree: Path) -> None:
    (tree / "val").rename(tree / "validation")
    found = only_error(tree)
    assert found.slug == "subset-missing" and '"validation"' in found.help


def test_other_and_hidden_folders_are_not_subsets(tree: Path) -> None:
    (tree / ".git" / "images").mkdir(parents=True)
    (tree / "notes").mkdir()
    assert set(opened(tree).subsets) == {"train", "val"}


def test_only_requested_subsets_are_read(tree: Path) -> None:
    (tree / "val" / "dataset_meta.json").write_text("broken", encoding="utf-8")
    assert set(opened(tree, "train").subsets) == {"train"}


def test_misspelled_root_gets_a_suggestion(tree: Path) -> None:
    found = only_error(tree.parent / "sett")
    assert found.slug == "data-root-missing" and f"`{tree}`" in found.help


def test_unknown_format_is_rejected(tree: Path) -> None:
    with pytest.raises(SegError, match="format-unknown"):
        open_index(tree, "coco", Request(["train"]))


def test_digest_depends_on_names_and_sizes_only(tree: Path) -> None:
    first = opened(tree).digest
    moved = shutil.copytree(tree, tree.parent / "moved")
    assert opened(moved).digest == first
    (moved / "val" / "images" / "d.png").rename(moved / "val" / "images" / "f.png")
    (moved / "val" / "masks" / "d.png").rename(moved / "val" / "masks" / "f.png")
    assert opened(moved).digest != first


def test_masks_are_decoded_once_until_a_file_changes(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[str] = []
    real = facts.decode_mask

    def decode_mask(data: bytes, path: Path, *rest: Any) -> np.ndarray:
        decoded.append(path.name)
        return real(data, path, *rest)

    monkeypatch.setattr(facts, "decode_mask", decode_mask)
    opened(tree)
    assert sorted(decoded) == ["a.png", "b.png", "c.png", "d.png", "e.png"]
    opened(tree)
    assert len(decoded) == 5
    Image.fromarray(np.ones((24, 32), dtype=np.uint8)).save(tree / "val" / "masks" / "d.png")
    opened(tree)
    assert decoded[5:] == ["d.png"]


def test_unreadable_mask_is_named(tree: Path) -> None:
    path = tree / "train" / "masks" / "b.png"
    path.write_bytes(path.read_bytes()[:60])
    found = only_error(tree)
    assert found.slug == "image-truncated" and found.path == str(path)


def test_unreadable_mask_is_reported_with_all_other_errors(tree: Path) -> None:
    for path in (tree / "train/masks/b.png", tree / "val/images/d.png"):
        path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(SegError) as caught:
        opened(tree)
    assert [d.path for d in caught.value.diagnostics] == [
        str(tree / "train/masks/b.png"),
        str(tree / "val/images/d.png"),
    ]


def test_palette_masks_with_an_ignore_color_are_usable(tree: Path) -> None:
    """As in Pascal VOC, where the color of ignored pixels is not declared."""
    colors = json.loads((tree / "train" / "dataset_meta.json").read_text(encoding="utf-8"))["segmentation_colors"]
    for path in (tree / "train" / "masks").iterdir():
        mask = Image.open(path)
        mask.putpalette([v for c in colors for v in c] + [0] * (252 * 3) + [224, 224, 192])
        assert mask.mode == "P"
        mask.save(path)
    mask = EvalDataset(opened(tree), "train")[0].mask
    assert set(np.unique(mask)) == {0, 1, 2, 255}


def test_many_errors_are_truncated_and_counted(tree: Path) -> None:
    findings = [Diagnostic("mask-missing", f"no {i}", "help.", path=str(i)) for i in range(MAX_ERRORS + 5)]
    shown = truncate_errors(findings)
    assert len(shown) == MAX_ERRORS and "5 more" in shown[-1].help
    assert truncate_errors(findings[:MAX_ERRORS]) == findings[:MAX_ERRORS]


def test_unwritable_cache_is_ignored(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGDSL_CACHE", str(tree / "train" / "dataset_meta.json"))
    assert len(opened(tree).get_subset("train")) == 3


@needs_shared
def test_camvid_small_is_indexed_completely() -> None:
    index = opened(SHARED / "camvid_small")
    assert len(index.classes) == 11 and index.classes[0] == "sky"
    assert (len(index.get_subset("train")), len(index.get_subset("val"))) == (24, 12)
    assert index.get_subset("val").list_item_ids() == sorted(index.get_subset("val").list_item_ids())
    image, mask = EvalDataset(index, "val")[0]
    assert image.shape == (180, 240, 3) and mask.shape == (180, 240) and 255 in mask
