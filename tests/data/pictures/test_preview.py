"""`data preview`: the samples of a run and no others, each step where it belongs, and a sheet that is readable."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segdsl.cli.invoke import run_cli
from segdsl.data.augment.pipeline import apply_steps
from segdsl.data.augment.sample import counter_rng
from segdsl.data.loading.dataset import make_train_dataset
from segdsl.data.pictures import preview as previews
from segdsl.data.pictures.grid import GAP
from segdsl.data.pictures.preview import Preview, make_preview
from segdsl.data.pictures.preview_sheet import BOX, render_preview_sheet, write_preview_sheet
from segdsl.data.pictures.thumbnails import DARK_GRAY, LIGHT_GRAY
from segdsl.run.program_data import open_data, resolve_classes

STEPS = """
      crop  = RandomResizedCrop(scale = 0.3..1.0)
      photo = PhotometricDistortion()
      flip  = HorizontalFlip(p = 0.5)
      lean  = Affine(p = 0.7)
      cut   = CutMix(p = 0.7)
      tiles = Mosaic(p = 0.5)
      paste = ClassMix(p = 0.7)
      mix   = AugMix(p = 0.7)
      box   = Resize(size = 40x20, fit = letterbox)
"""
PROGRAM = """seg 1

extends "std/semantic.seg"
import "std/lite_hrnet.seg"

data {{
  root       = "set"
  input_size = 32x64
  train {{
    batch = 2
    augment {{{steps}    }}
  }}
}}

model = LiteHRNetS(classes = len(data.classes))
"""


def write_program(folder: Path, steps: str = STEPS) -> Path:
    """A program on the data set `set` beside it."""
    file = folder / "my.seg"
    file.write_text(PROGRAM.format(steps=steps), encoding="utf-8")
    return file


@pytest.fixture
def program(tree: Path) -> Path:
    return write_program(tree.parent)


def previewed(file: Path, count: int = 5, epoch: int = 0, *overrides: str) -> Preview:
    loaded = resolve_classes(file, overrides)
    return make_preview(loaded, open_data(loaded), count, epoch)


def whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stages keep their images as they are."""
    monkeypatch.setattr(previews, "_shrink_sample", lambda sample: sample)


@pytest.mark.parametrize("epoch", [0, 3])
def test_every_stage_is_that_of_a_run(program: Path, epoch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole(monkeypatch)
    found = previewed(program, 4, epoch)
    dataset = make_train_dataset(found.program, found.index)
    batches = dataset.make_epoch_keys(2, epoch)
    assert [shown.key for shown in found.samples] == [key for batch in batches for key in batch]
    for shown in found.samples:
        key, last = shown.key, dataset[shown.key]
        assert shown.image_path == dataset.subset.get_image_path(key.position)
        assert last.image.tobytes() == shown.stages[-1].image.tobytes()
        assert last.mask.tobytes() == shown.stages[-1].mask.tobytes() and shown.stages[-1].size == (32, 64)
        for number, stage in enumerate(shown.stages[:-1]):
            rng = counter_rng(dataset.seed, key.epoch, key.position, key.draw)
            steps = dataset.augmentations[:number]
            image, mask = apply_steps(
                steps, dataset.open_pair(key.position), rng, dataset.context, dataset.open_random_pair
            )
            assert image.tobytes() == stage.image.tobytes() and mask.tobytes() == stage.mask.tobytes()


def test_a_jpeg_that_is_cut_at_a_reduced_size_is_that_of_a_run(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole(monkeypatch)
    for path in (tree / "train").rglob("*.png"):
        large = Image.open(path).resize((512, 384), Image.Resampling.NEAREST)
        large.save(path if path.parent.name == "masks" else path.with_suffix(".jpg"))
    for path in (tree / "train" / "images").glob("*.png"):
        path.unlink()
    found = previewed(write_program(tree.parent), 3)
    dataset = make_train_dataset(found.program, found.index)
    for shown in found.samples:
        assert shown.stages[0].size == (384, 512) and shown.stages[1].size == (32, 64)
        assert dataset[shown.key].image.tobytes() == shown.stages[-1].image.tobytes()


def test_what_a_step_left_as_it_was_is_told_apart(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole(monkeypatch)
    found = previewed(program, 3, 0, "data.train.augment.flip.p=1", "data.train.augment.cut.p=0")
    for shown in found.samples:
        stages = {stage.name: stage for stage in shown.stages}
        assert not stages["flip"].is_idle and stages["flip"].word == "HorizontalFlip"
        assert np.array_equal(stages["flip"].image, stages["photo"].image[:, ::-1])
        assert stages["cut"].is_idle and np.array_equal(stages["cut"].image, stages["lean"].image)
        assert not stages["image"].is_idle and not stages["network"].is_idle


def test_no_steps_are_two_stages(tree: Path) -> None:
    found = previewed(write_program(tree.parent, "\n      drop crop\n      drop photo\n      drop flip\n"))
    assert [stage.name for stage in found.samples[0].stages] == ["image", "network"]
    page = render_preview_sheet(found)
    assert len(stage_classes(page)) == 2 * len(found.samples) and "<table" not in page


def test_stages_of_large_images_are_kept_small(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(previews, "MAX_SIDE", 16)
    for shown in previewed(program).samples:
        for stage in shown.stages:
            assert max(stage.image.shape) <= 16 and stage.image.shape[:2] == stage.mask.shape
        assert shown.stages[0].size == (24, 32)


def stage_classes(page: str) -> list[str]:
    return re.findall(r'<figure class="stage( idle)?">', page)


def grid_of(found: Preview, out: Path) -> np.ndarray:
    write_preview_sheet(found, out)
    return np.array(Image.open(out))


def test_a_page_shows_every_stage_and_its_mask(program: Path) -> None:
    found = previewed(program)
    page = render_preview_sheet(found)
    stages = [stage for shown in found.samples for stage in shown.stages]
    assert stage_classes(page) == [" idle" if stage.is_idle else "" for stage in stages]
    assert page.count('<img src="data:image/jpeg;base64,') == 2 * len(stages)
    legend = page[page.index('<ul class="legend') :].partition("</ul>")[0]
    assert all(color in legend for color in ("#804080", "#00008e", "#4682b4")) and "hatch" in legend
    flips = sum(stage.has_changed for stage in stages if stage.name == "flip")
    assert f"<bdi>flip</bdi></th><td>HorizontalFlip</td><td>{flips} of {len(found.samples)}</td>" in page
    assert page == render_preview_sheet(previewed(program))


def test_a_page_runs_nothing_of_its_program_and_data(program: Path, tree: Path) -> None:
    for kind, ending in (("images", "png"), ("masks", "png")):
        (tree / "train" / kind / f"a.{ending}").rename(tree / "train" / kind / f"<script>a.{ending}")
    page = render_preview_sheet(previewed(program))
    assert "&lt;script&gt;a.png" in page and page.count("<script") == 1


def test_ignored_is_in_the_legend_where_it_is_in_the_masks(program: Path) -> None:
    found = previewed(program, 1)
    (shown,) = found.samples
    none = shown._replace(stages=tuple(s._replace(mask=s.mask * (s.mask != 255)) for s in shown.stages))
    assert "hatch" in render_preview_sheet(found).partition("</style>")[2]
    assert "hatch" not in render_preview_sheet(found._replace(samples=(none,))).partition("</style>")[2]


def test_a_grid_has_a_row_of_images_and_one_of_masks_per_sample(program: Path, tmp_path: Path) -> None:
    found = previewed(program, 3)
    pixels = grid_of(found, tmp_path / "p.png")
    rows, columns = 2 * len(found.samples), len(found.samples[0].stages)
    assert pixels.shape == (rows * (BOX[0] + GAP) + GAP, columns * (BOX[1] + GAP) + GAP, 3)
    colors = {
        tuple(value.to_bytes(3, "big")) for value in np.unique(pixels.astype(int) @ (1 << 16, 1 << 8, 1)).tolist()
    }
    assert {(128, 64, 128), (0, 0, 142), (70, 130, 180), (DARK_GRAY,) * 3, (LIGHT_GRAY,) * 3} <= colors


def test_an_idle_step_is_pale_in_a_grid(program: Path, tmp_path: Path) -> None:
    found = previewed(program, 1, 0, "data.train.augment.flip.p=0")
    (shown,) = found.samples
    busy = shown._replace(stages=tuple(stage._replace(has_changed=True) for stage in shown.stages))
    names = [stage.name for stage in shown.stages]
    assert "flip" in [stage.name for stage in shown.stages if stage.is_idle]
    pale, full = (grid_of(found._replace(samples=(s,)), tmp_path / "p.png").astype(int) for s in (shown, busy))
    left = GAP + names.index("flip") * (BOX[1] + GAP)
    assert (pale - full)[:, left : left + BOX[1]].mean() > 20 and (pale == full)[:, : GAP + BOX[1]].all()


def answer(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, Any, str]:
    status = run_cli(["data", "preview", *args])
    out, err = capsys.readouterr()
    return status, out, err


def test_the_command_reports_what_it_drew(
    program: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    wording: Callable[..., None],
) -> None:
    monkeypatch.chdir(tmp_path)
    status, out, err = answer(capsys, "my.seg", "--samples", "2", "--epoch", "4")
    assert status == 0 and not err
    wording(out)
    assert len(stage_classes((tmp_path / "preview.html").read_text(encoding="utf-8"))) == 2 * 11
    status, out, err = answer(capsys, "my.seg", "--samples", "9", "--out", "new/p.jpg", "--json", "--data", "set")
    facts = json.loads(out)
    assert status == 0 and not err and Image.open(tmp_path / facts["sheet"]).format == "JPEG"
    assert facts["epoch"] == 1 and facts["input_size"] == {"height": 32, "width": 64}
    assert [s["draw"] for s in facts["samples"]] == [0, 0, 0, 1]  # a full last batch: one image is used again
    found = previewed(tmp_path / "my.seg", 4, 0)
    expected = [shown.key.position for shown in found.samples]
    assert [s["image"] for s in facts["samples"]] == [f"{'abc'[k]}.png" for k in expected]
    box = facts["samples"][0]["stages"][-2]
    assert box == {"name": "box", "word": "Resize", "height": 40, "width": 20, "changed": True}


@pytest.mark.parametrize(
    ("args", "slug"),
    [
        (["my.seg", "--out", "set/train/images/p.png"], "sheet-target-taken"),
        (["my.seg", "--out", "p.txt"], "sheet-ending"),
        (["my.seg", "--data", "elsewhere"], "data-root-missing"),
        (["my.seg", "--set", "data.train.augment.flip.q=1"], "unknown-argument"),
        (["my.seg", "--set", 'data.train.subset="other"'], "subset-missing"),
        (["gone.seg"], "file-missing"),
        (["set"], "file-unreadable"),
    ],
)
def test_what_is_at_fault_is_named(
    program: Path,
    tmp_path: Path,
    args: list[str],
    slug: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    status, out, err = answer(capsys, *args)
    assert status == 1 and not out and err.startswith(f"error[{slug}]") and "= help: " in err, err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["my.seg", "set"]


def test_a_bad_image_is_named(program: Path, tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in "abc":
        path = tree / "train" / "images" / f"{name}.png"
        path.write_bytes(path.read_bytes()[:200])
    status, out, err = answer(capsys, str(program), "--out", str(tree.parent / "p.png"))
    assert status == 1 and not out and "image-" in err.splitlines()[0] and ".png" in err
    assert not (tree.parent / "p.png").exists()


@pytest.mark.parametrize("args", [["--samples", "0"], ["--epoch", "0"], ["--samples", "65"], ["--epoch", "x"]])
def test_numbers_that_are_none_are_wrong_usage(
    program: Path, args: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert answer(capsys, str(program), *args)[0] == 2


def test_it_imports_no_torch(program: Path) -> None:
    code = (
        f"import sys; from segdsl.cli.invoke import run_cli\n"
        f"assert run_cli(['data', 'preview', {str(program)!r}]) == 0;"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=program.parent, env=os.environ, capture_output=True)
    assert done.returncode == 0, done.stderr
