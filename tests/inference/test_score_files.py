"""The tables of an evaluation: their content, what they may overwrite, and no partial files."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import segdsl
from segdsl.cli.invoke import run_cli as cli
from segdsl.diagnostics import SegError
from segdsl.inference import score_files
from segdsl.inference.evaluate import evaluate_path
from segdsl.inference.models.opener import open_model

NAMES = ["classes.csv", "confusion.csv", "images.csv"]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_tables_agree_with_json_and_have_a_row_per_image(run: Path, data: Path, tmp_path: Path) -> None:
    found = segdsl.evaluate(run, overrides=["eval.boundary=2"], out=tmp_path / "scores")
    assert sorted(p.name for p in (tmp_path / "scores").iterdir()) == NAMES
    images, model = rows(tmp_path / "scores" / "images.csv"), open_model(run)
    assert [row["image"] for row in images] == [f"val_{k}.png" for k in range(5)]
    for row in images:
        mask = np.asarray(Image.open(data / "val" / "masks" / row["image"]))
        prediction = model.predict(np.asarray(Image.open(data / "val" / "images" / row["image"])))
        right = (prediction == mask)[mask != 255].mean()
        assert float(row["accuracy"]) == pytest.approx(right, rel=1e-5)
        assert (int(row["pixels"]), int(row["void"])) == ((mask != 255).sum(), (mask == 255).sum())
        assert [int(row[f"pixels.{name}"]) for name in model.classes] == [(mask == k).sum() for k in range(4)]
        dice = [float(row[f"dice.{name}"]) for name in model.classes if row[f"dice.{name}"]]
        assert float(row["dice"]) == pytest.approx(np.mean(dice), rel=1e-5)
        assert 0 <= float(row["boundary_f1"]) <= 1
    classes = rows(tmp_path / "scores" / "classes.csv")
    for row, (name, scores) in zip(classes, found["per_class"].items(), strict=True):
        assert row.pop("class") == name
        shown = {key: None if value is None else pytest.approx(value, rel=1e-5) for key, value in scores.items()}
        assert {key: float(value) if value else None for key, value in row.items()} == shown
    matrix = list(csv.reader((tmp_path / "scores" / "confusion.csv").open(encoding="utf-8")))
    assert matrix[0] == ["true/predicted", *model.classes]
    assert [[int(n) for n in line[1:]] for line in matrix[1:]] == found["confusion"]


def test_json_names_the_background_and_leaves_it_out_of_the_foreground(run: Path) -> None:
    found = evaluate_path(run)
    front = [scores for name, scores in found["per_class"].items() if name != "background"]
    assert found["background"] == "background"
    assert found["foreground"]["dice"] == pytest.approx(np.mean([s["dice"] for s in front]))
    assert found["foreground"]["miou"] == pytest.approx(np.mean([s["iou"] for s in front]))
    hits, sizes = (
        sum(found["confusion"][k][k] for k in range(1, 4)), sum(s["pixels"] + s["predicted"] for s in front)
    )  # fmt: skip
    assert found["foreground"]["dice_micro"] == pytest.approx(2 * hits / sizes)
    assert found["dice_micro"] == found["accuracy"]
    assert "boundary_f1" not in found and "boundary_f1" not in front[0]
    assert json.loads(json.dumps(found)) == found


def test_an_earlier_evaluation_is_replaced_and_nothing_else(run: Path, tmp_path: Path) -> None:
    evaluate_path(run, out=tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    evaluate_path(run, subset="train", out=tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == NAMES
    assert all(p.read_bytes() != before[p.name] for p in tmp_path.iterdir())


@pytest.mark.parametrize("taken", ["images.csv", "confusion.csv", "notes.txt", "images.csv/inside", "folder/inside"])
def test_a_folder_with_other_files_is_refused_and_unchanged(run: Path, tmp_path: Path, taken: str) -> None:
    path = tmp_path / "out" / taken
    path.parent.mkdir(parents=True)
    path.write_text("image,mine\n", encoding="utf-8")
    with pytest.raises(SegError) as caught:
        segdsl.evaluate(run, out=tmp_path / "out")
    assert [d.slug for d in caught.value.diagnostics] == ["out-holds-other-files"]
    assert [p for p in (tmp_path / "out").rglob("*") if p.is_file()] == [path]
    assert path.read_text(encoding="utf-8") == "image,mine\n"


def test_a_file_as_output_folder_is_refused(run: Path, tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(SegError) as caught:
        segdsl.evaluate(run, out=tmp_path / "out")
    assert [d.slug for d in caught.value.diagnostics] == ["out-holds-other-files"]


def test_an_evaluation_that_fails_leaves_the_earlier_one(
    run: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    evaluate_path(run, out=out)
    before = {p.name: p.read_bytes() for p in out.iterdir()}

    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(score_files, "write_atomically", full)
        with pytest.raises(SegError) as caught:
            evaluate_path(run, subset="train", out=out)
    assert [d.slug for d in caught.value.diagnostics] == ["scores-not-written"]
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(score_files.ScoreWriter, "write_image", stopped)
    with pytest.raises(KeyboardInterrupt):
        evaluate_path(run, out=out)
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before


def test_a_folder_with_a_single_model_opens_it(fp32: Path, tmp_path: Path, data: Path) -> None:
    one = tmp_path / "one"
    one.mkdir()
    for ending in (".xml", ".bin"):
        (one / f"model{ending}").write_bytes(fp32.with_suffix(ending).read_bytes())
    assert evaluate_path(one, str(data)) == evaluate_path(fp32)
    (one / "other.xml").write_bytes(fp32.read_bytes())
    with pytest.raises(SegError) as caught:
        evaluate_path(one, str(data))
    (finding,) = caught.value.diagnostics
    assert finding.slug == "model-ambiguous"
    assert "`model.xml`, `other.xml`" in finding.message and str(one / "model.xml") in finding.help


@pytest.mark.parametrize(
    ("options", "key", "value", "shown"),
    [
        (["--tile", "20x24"], "tile", "20x24", "windows of 20x24"),
        (["--tile", "input"], "tile", "45x64", "windows of 45x64"),
        (["--tile", "20x24", "--overlap", "0.5"], "overlap", 0.5, "50%"),
        (["--flip"], "flip", True, "whole images, "),
        (["--flip", "--scales", "1,1.5"], "scales", [1, 1.5], "1.5"),
        (["--boundary", "0.01"], "boundary", 0.01, "within 0.01 "),
        (["--boundary", "2"], "boundary", 2, "within 2 pixels"),
        (["--scale", "input"], "scale", "input", "input size"),
        (["--flip", "--set", "eval.flip=false"], "flip", False, "whole images"),
    ],
)
def test_options_are_keys_of_the_program(
    run: Path, capsys: pytest.CaptureFixture[str], options: list[str], key: str, value: object, shown: str
) -> None:
    assert cli(["eval", str(run), *options]) == 0
    text = capsys.readouterr().out
    assert shown in text and "`background`" in text
    assert max(map(len, text.splitlines())) <= 80
    assert cli(["eval", str(run), *options, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[key] == value


@pytest.mark.parametrize(
    ("option", "value", "remedy"),
    [
        ("--tile", "512", "`512x512`"),
        ("--tile", "large", "`512x512`"),
        ("--scales", "1,big", "number"),
        ("--overlap", "50", "`0.5`"),
        ("--boundary", "0", "`boundary = none`"),
    ],
)
def test_a_wrong_option_is_explained_by_its_name(
    run: Path, capsys: pytest.CaptureFixture[str], option: str, value: str, remedy: str
) -> None:
    assert cli(["eval", str(run), option, value]) == 1
    err = capsys.readouterr().err
    assert f"--> {option}:1:" in err and remedy in err
    assert "--set" not in err and "let " not in err


def test_an_overlap_without_windows_is_a_warning(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli(["eval", str(run), "--overlap", "0.5"]) == 0
    assert "warning[overlap-without-windows]: --overlap" in capsys.readouterr().err
    for windows in (["--tile", "input"], ["--scales", "1,1.5"]):
        assert cli(["eval", str(run), "--overlap", "0.5", *windows]) == 0
        assert "warning" not in capsys.readouterr().err


def test_a_missing_subset_is_answered_with_those_that_exist(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli(["eval", str(run), "--subset", "nope"]) == 1
    err = capsys.readouterr().err
    assert "`train`, `val`" in err and "`--subset train`" in err
