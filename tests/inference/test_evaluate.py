"""Scores of runs and exported models: equal numbers, counted at the documented size."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from segdsl.diagnostics import SegError
from segdsl.inference.evaluate import evaluate_path
from segdsl.inference.models.opener import open_model


def pairs(data: Path, subset: str = "val") -> list[tuple[np.ndarray, np.ndarray]]:
    names = sorted(p.name for p in (data / subset / "images").iterdir())
    read = lambda kind, name: np.asarray(Image.open(data / subset / kind / name))  # noqa: E731
    return [(read("images", name), read("masks", name)) for name in names]


def dice_of(masks: list[tuple[np.ndarray, np.ndarray]], classes: int) -> list[float | None]:
    """Dice by class of (prediction, target) pairs, from its definition."""
    found: list[float | None] = []
    for k in range(classes):
        hits = sum(int(((p == k) & (t == k)).sum()) for p, t in masks)
        sizes = sum(int(((p == k) & (t != 255)).sum() + (t == k).sum()) for p, t in masks)
        found.append(2 * hits / sizes if sizes else None)
    return found


def test_scores_are_counted_at_image_size(run: Path, data: Path) -> None:
    model, found = open_model(run), evaluate_path(run)
    expected = dice_of([(model.predict(image), mask) for image, mask in pairs(data)], 4)
    assert [c["dice"] for c in found["per_class"].values()] == pytest.approx(expected)
    assert list(found["per_class"]) == list(model.classes)
    assert found["dice"] == pytest.approx(np.mean([d for d in expected if d is not None]))
    assert (found["images"], found["scale"]) == (5, "image")
    assert set(found) == {
        "dice", "miou", "accuracy", "per_class", "images", "scale", "dice_micro", "background", "foreground",
        "confusion", "tile", "overlap", "flip", "scales", "boundary", "out",
    }  # fmt: skip


def test_scores_are_counted_at_input_size_on_request(run: Path, data: Path) -> None:
    model, found = open_model(run), evaluate_path(run, scale="input")
    exact = cv2.INTER_NEAREST_EXACT  # as validation in training sees the masks
    sized = [(model.predict_input_mask(i), cv2.resize(m, (64, 45), interpolation=exact)) for i, m in pairs(data)]
    assert [c["dice"] for c in found["per_class"].values()] == pytest.approx(dice_of(sized, 4))
    assert found["scale"] == "input"
    assert found["dice"] != evaluate_path(run)["dice"]


def test_the_file_scores_as_the_run_does(run: Path, fp32: Path, fp16: Path) -> None:
    trained = evaluate_path(run)
    for exported in (fp32, fp16):
        found = evaluate_path(exported)
        assert found["dice"] == pytest.approx(trained["dice"], abs=1e-3)
        assert found["miou"] == pytest.approx(trained["miou"], abs=1e-3)


def test_subsets_go_by_role_and_by_name(run: Path, data: Path, tmp_path: Path) -> None:
    assert evaluate_path(run, subset="train")["images"] == 2
    shutil.copytree(data, tmp_path / "data")
    (tmp_path / "data" / "val").rename(tmp_path / "data" / "clip 7")
    assert evaluate_path(run, str(tmp_path / "data"), "clip 7") == evaluate_path(run)
    with pytest.raises(SegError) as caught:
        evaluate_path(run, str(tmp_path / "data"))
    assert [d.slug for d in caught.value.diagnostics] == ["subset-missing"]


def test_a_moved_file_needs_the_dataset_folder(fp32: Path, data: Path, tmp_path: Path) -> None:
    for ending in (".xml", ".bin"):
        shutil.copy(fp32.with_suffix(ending), tmp_path / f"model{ending}")
    with pytest.raises(SegError) as caught:
        evaluate_path(tmp_path / "model.xml")
    (finding,) = caught.value.diagnostics
    assert (finding.slug, "--data" in finding.help) == ("data-root-missing", True)
    assert evaluate_path(tmp_path / "model.xml", str(data)) == evaluate_path(fp32)


def test_a_dataset_with_other_classes_is_refused(run: Path, data: Path, tmp_path: Path) -> None:
    shutil.copytree(data, tmp_path / "data")
    for meta in (tmp_path / "data").glob("*/dataset_meta.json"):
        meta.write_text(meta.read_text(encoding="utf-8").replace("rust spot", "moss"), encoding="utf-8")
    with pytest.raises(SegError) as caught:
        evaluate_path(run, str(tmp_path / "data"))
    (finding,) = caught.value.diagnostics
    assert finding.slug == "classes-differ"
    assert "rust spot" in finding.message and "moss" in finding.message


def test_a_subset_of_ignored_pixels_has_no_scores(run: Path, data: Path, tmp_path: Path) -> None:
    shutil.copytree(data, tmp_path / "data")
    for mask in (tmp_path / "data" / "val" / "masks").iterdir():
        Image.fromarray(np.full_like(np.asarray(Image.open(mask)), 255)).save(mask)
    found = evaluate_path(run, str(tmp_path / "data"))
    assert (found["dice"], found["miou"], found["accuracy"]) == (None, None, None)
    assert {c["dice"] for c in found["per_class"].values()} == {None}
