"""Predictions on disk: masks that hold class ids, pictures for people, and no file lost or overwritten."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segdsl import verbs
from segdsl.data.pictures.palette import make_class_colors, make_class_styles
from segdsl.diagnostics import SegError
from segdsl.inference import predict as predicting
from segdsl.inference.models.opener import open_model
from segdsl.inference.overlay import encode_mask_png, render_overlay_png, tint_classes
from segdsl.inference.predict import collect_jobs
from segdsl.inference.tiling import classify_image
from segdsl.lang.program import load_text


def picture(height: int = 40, width: int = 60, seed: int = 0) -> np.ndarray:
    small = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BILINEAR))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder with images of all kinds, one of them deeper, and files that are none."""
    folder = tmp_path / "images"
    (folder / "deeper").mkdir(parents=True)
    rgb = Image.fromarray(picture())
    rgb.save(folder / "plain.png")
    rgb.save(folder / "photo.JPG", "JPEG")
    rgb.convert("L").save(folder / "grey.png")
    rgb.convert("P").save(folder / "palette.png")
    rgba = rgb.convert("RGBA")
    rgba.putalpha(100)
    rgba.save(folder / "alpha.png")
    Image.fromarray(picture(1, 1)).save(folder / "dot.bmp")
    Image.fromarray(picture(77, 9)).save(folder / "deeper" / "odd.tif")
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden.png").write_bytes(b"")
    return folder


def written(out: Path) -> set[str]:
    return {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()}


def test_every_kind_of_image_gets_mask_and_overlay(images: Path, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "seen"
    assert verbs.predict(run, [str(images)], out) == {"images": 7, "out": str(out)}
    names = ["alpha", "deeper/odd", "dot", "grey", "palette", "photo", "plain"]
    results = {f"{kind}/{name}.png" for kind in ("masks", "overlays") for name in names}
    assert written(out) == {*results, "predictions.csv"}
    model = open_model(run)
    mask = Image.open(out / "masks" / "plain.png")
    assert (mask.mode, mask.size) == ("P", (60, 40))
    assert np.array_equal(np.asarray(mask), model.predict(picture()))
    assert np.array_equal(np.asarray(Image.open(out / "masks" / "alpha.png")), np.asarray(mask))
    assert Image.open(out / "masks" / "deeper" / "odd.png").size == (9, 77)


def test_the_table_says_which_is_which(images: Path, fp32: Path, tmp_path: Path) -> None:
    out = tmp_path / "seen"
    verbs.predict(fp32, [str(images / "grey.png"), str(images / "deeper")], out)
    with open(out / "predictions.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == [str(images / "grey.png"), str(images / "deeper" / "odd.tif")]
    assert [row["mask"] for row in rows] == ["masks/grey.png", "masks/odd.png"]
    assert all((out / row[kind]).is_file() for row in rows for kind in ("mask", "overlay"))


def test_bad_images_are_named_and_the_rest_goes_on(images: Path, run: Path, tmp_path: Path) -> None:
    whole = (images / "plain.png").read_bytes()
    (images / "cut.png").write_bytes(whole[: len(whole) // 2])
    (images / "empty.jpg").write_bytes(b"")
    with pytest.raises(SegError) as caught:
        verbs.predict(run, [str(images), str(tmp_path / "gone.png")], tmp_path / "seen")
    found = [(d.slug, Path(d.path or "").name, d.severity) for d in caught.value.diagnostics]
    assert found == [
        ("input-missing", "gone.png", "error"),
        ("image-truncated", "cut.png", "error"),
        ("data-file-empty", "empty.jpg", "error"),
        ("predictions-incomplete", "", "note"),
    ]
    assert "7 of 9" in caught.value.diagnostics[-1].message
    assert len(list((tmp_path / "seen" / "masks").rglob("*.png"))) == 7


def test_nothing_to_do_is_told_before_anything_is_made(tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    with pytest.raises(SegError) as caught:
        verbs.predict(tmp_path / "no model", [str(tmp_path / "bare"), str(tmp_path / "gone")], tmp_path / "seen")
    assert [d.slug for d in caught.value.diagnostics] == ["input-without-images", "input-missing"]
    assert not (tmp_path / "seen").exists()


def names(inputs: list[Path], out: Path) -> dict[str, str]:
    return {str(job.image): str(job.result_path) for job in collect_jobs(inputs, out, [])}


def test_images_of_one_name_get_results_of_their_own(tmp_path: Path) -> None:
    for name in ("a/x.png", "a/x.jpg", "a/y.png", "b/x.png", "b/Y.png", "c/x.jpg.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = collect_jobs([tmp_path / "a", tmp_path / "b", tmp_path / "c"], tmp_path / "seen", [])
    results = [str(job.result_path) for job in found]
    assert len(set(map(str.lower, results))) == len(results) == 6
    assert results[:3] == ["x.jpg.png", "x.png.png", "y.png.png"]
    single = [tmp_path / "a" / "y.png"]
    assert names(single * 3, tmp_path / "seen") == {str(single[0]): "y.png"}


def test_images_are_found_in_order(images: Path, tmp_path: Path) -> None:
    found = [Path(image).name for image in names([images], tmp_path / "seen")]
    assert found == ["alpha.png", "dot.bmp", "grey.png", "palette.png", "photo.JPG", "plain.png", "odd.tif"]


def test_predictions_may_be_made_again_but_replace_nothing_else(images: Path, run: Path, tmp_path: Path) -> None:
    out = images / "seen"
    verbs.predict(run, [str(images)], out)
    before = written(out)
    assert verbs.predict(run, [str(images)], out)["images"] == 7, "earlier overlays are no input"
    assert written(out) == before
    for other in (images / "deeper", images / "plain.png"):
        content = other.read_bytes() if other.is_file() else b""
        with pytest.raises(SegError) as caught:
            verbs.predict(run, [str(images / "plain.png")], other)
        assert [d.slug for d in caught.value.diagnostics] == ["out-holds-other-files"]
        assert not other.is_file() or other.read_bytes() == content


def test_masks_beside_a_table_of_someone_else_are_kept(images: Path, run: Path, tmp_path: Path) -> None:
    """A name is no mark: only what our own table lists was made by us."""
    out = tmp_path / "labels"
    (out / "masks").mkdir(parents=True)
    (out / "predictions.csv").write_text("image,annotator\nplain.png,Ann\n")
    (out / "masks" / "plain.png").write_bytes(b"a week of work")
    with pytest.raises(SegError) as caught:
        verbs.predict(run, [str(images / "plain.png")], out)
    assert [d.slug for d in caught.value.diagnostics] == ["out-holds-other-files"]
    assert (out / "masks" / "plain.png").read_bytes() == b"a week of work"


def test_a_full_disk_is_reported(images: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(predicting, "write_atomically", full)
    with pytest.raises(SegError) as caught:
        verbs.predict(run, [str(images)], tmp_path / "seen")
    assert [d.slug for d in caught.value.diagnostics] == ["predictions-not-written"]


def test_a_mask_is_read_back_as_its_ids(tmp_path: Path) -> None:
    from segdsl.data.decode.masks import read_mask

    mask = np.arange(256, dtype=np.uint8).reshape(16, 16)
    colors = make_class_colors([f"class {k}" for k in range(256)])
    (tmp_path / "mask.png").write_bytes(encode_mask_png(mask, colors))
    assert np.array_equal(read_mask(tmp_path / "mask.png"), mask)
    picture = Image.open(tmp_path / "mask.png")
    assert [tuple(c) for c in np.asarray(picture.convert("RGB")).reshape(-1, 3).tolist()] == colors


def test_classes_look_different() -> None:
    colors = make_class_colors(["background", *(f"class {k}" for k in range(30))])
    assert colors[0] == (0, 0, 0)
    assert len(set(colors)) == 31
    first = np.array(colors[1:13], int)
    distances = np.abs(first[:, None] - first[None]).sum(2) + 1000 * np.eye(12, dtype=int)
    assert distances.min() > 60


def test_the_overlay_tints_classes_and_leaves_the_background(tmp_path: Path) -> None:
    classes, image = ["Background", "rust"], picture(30, 50)
    mask = np.zeros((30, 50), np.uint8)
    mask[10:20, 10:30] = 1
    colors = make_class_colors(classes)
    tinted = tint_classes(image, mask, make_class_styles(classes, colors))
    assert np.array_equal(tinted[mask == 0], image[mask == 0])
    assert (tinted[10, 10:30] == colors[1]).all(), "the border has the full colour"
    inside = np.abs(tinted[15, 20].astype(float) - (0.55 * image[15, 20] + 0.45 * np.array(colors[1])))
    assert inside.max() <= 1


@pytest.mark.parametrize("count", [1, 3, 40])
def test_the_legend_is_below_the_image(count: int) -> None:
    classes = [f"class {k} 道路 {'very ' * k}long" for k in range(count)]
    mask = np.resize(np.arange(count, dtype=np.uint8), (20, 33))
    content = render_overlay_png(picture(20, 33), mask, make_class_styles(classes))
    shown = Image.open(BytesIO(content))
    assert shown.width >= 33 and shown.height > 20
    assert np.array_equal(np.asarray(shown)[:20, :33], tint_classes(picture(20, 33), mask, make_class_styles(classes)))
    legend = np.asarray(shown)[20:].reshape(-1, 3)
    drawn = {tuple(c) for c in legend.tolist()}
    assert {tuple(color) for color in make_class_colors(classes)} <= drawn


def test_the_answer_is_json(images: Path, run: Path, tmp_path: Path) -> None:
    answer = verbs.predict(run, [str(images / "dot.bmp")], tmp_path / "seen")
    assert json.loads(json.dumps(answer)) == {"images": 1, "out": str(tmp_path / "seen")}


def test_an_interrupted_prediction_can_be_repeated(
    images: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> bytes:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(predicting, "render_overlay_png", stopped)
        verbs.predict(run, [str(images)], tmp_path / "seen")
    assert len(written(tmp_path / "seen")) == 2
    assert verbs.predict(run, [str(images)], tmp_path / "seen")["images"] == 7


def test_an_exported_model_needs_no_torch(images: Path, fp32: Path, data: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from segdsl import verbs; from segdsl.inference import evaluate\n"
        "xml, images, data, out = sys.argv[1:]\n"
        "verbs.predict(xml, [images], Path(out)); evaluate.evaluate_path(xml, data)\n"
        "print('torch' in sys.modules)"
    )
    arguments = [str(fp32), str(images / "dot.bmp"), str(data), str(tmp_path / "seen")]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_windows_are_those_of_eval(run: Path, tmp_path: Path) -> None:
    Image.fromarray(picture(300, 400)).save(tmp_path / "large.png")
    whole = verbs.predict(run, str(tmp_path / "large.png"), tmp_path / "whole")
    verbs.predict(run, tmp_path / "large.png", tmp_path / "tiled", overrides=["eval.tile=32x48"])
    model = open_model(run)
    masks = [np.asarray(Image.open(tmp_path / name / "masks" / "large.png")) for name in ("whole", "tiled")]
    assert whole["images"] == 1
    assert np.array_equal(masks[0], model.predict(picture(300, 400)))
    model.program = load_text(model.program.resolved, "p.seg", ["eval.tile=32x48"])
    assert np.array_equal(masks[1], classify_image(model, picture(300, 400)))
    assert not np.array_equal(masks[0], masks[1])


def test_only_how_images_are_processed_can_be_set(run: Path, images: Path, tmp_path: Path) -> None:
    with pytest.raises(SegError) as caught:
        verbs.predict(run, images, tmp_path / "seen", overrides=["data.input_size=64x64"])
    assert [d.slug for d in caught.value.diagnostics] == ["setting-without-effect"]


def test_classes_have_the_colors_of_the_dataset(run: Path, images: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    model = open_model(copy)
    own = [f"#0000{k:02x}" for k in range(len(model.classes))]
    for colors, expected in ((own, [0, 0, 0, 0, 0, 1]), (["#000000"], None), ([3] * len(own), None), ("x", None)):
        (copy / "lock.json").write_text(json.dumps({"colors": colors}))
        verbs.predict(copy, images / "plain.png", tmp_path / "seen")
        palette = Image.open(tmp_path / "seen" / "masks" / "plain.png").getpalette() or []
        assert palette[:6] == (
            expected or [channel for color in make_class_colors(model.classes)[:2] for channel in color]
        )
