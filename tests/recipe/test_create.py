"""`segdsl new` writes programs that check, are formatted and train, and it overwrites nothing."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segdsl.cli.invoke import run_cli
from segdsl.data.demo.generate import write_demo_dataset
from segdsl.diagnostics import SegError
from segdsl.lang.program import load
from segdsl.recipe import create as creating
from segdsl.recipe.create import ProgramRequest, create_program
from segdsl.recipe.machine import GIB, Machine
from segdsl.recipe.plan import MODELS
from segdsl.syntax.printer.format import format_text
from segdsl.words.losses import CrossEntropy, WeightedSum

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
DESK = Machine(cores=2, memory=24 * GIB)
CLASSES = ("heaven", "ground", "pole")
real = pytest.mark.skipif(not SHARED.is_dir(), reason="the data sets of ../shared are not there")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees what another, or the user, has cached."""
    monkeypatch.setenv("SEGDSL_CACHE", str(tmp_path_factory.mktemp("cache")))


def scene(number: int) -> np.ndarray:
    """Heaven above, ground below, a pole of two pixels before them; void in a corner."""
    mask = np.zeros((64, 96))
    mask[32 + number % 5 :] = 1
    mask[10:50, 20 + number % 9 : 22 + number % 9] = 2
    mask[:3, :3] = 255
    return mask


def write_set(root: Path, make: Callable[[int], np.ndarray] = scene, classes: tuple[str, ...] = CLASSES) -> Path:
    """Eight pairs to learn from, four to score on; what a pixel is can be told from its colour."""
    for subset, count in (("train", 8), ("val", 4)):
        for folder in ("images", "masks"):
            (root / subset / folder).mkdir(parents=True)
        meta = {"label_map": {str(k): name for k, name in enumerate(classes)}}
        (root / subset / "dataset_meta.json").write_text(json.dumps(meta), encoding="utf-8")
        for number in range(count):
            mask = make(number + len(subset)).astype(np.uint8)
            noise = np.random.default_rng([number, count]).integers(0, 40, (*mask.shape, 3))
            image = noise + 80 * np.stack([mask % 3, mask % 2, mask == 0], axis=-1)
            Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(root / subset / "images" / f"{number}.png")
            Image.fromarray(mask).save(root / subset / "masks" / f"{number}.png")
    return root


@pytest.fixture
def street(tmp_path: Path) -> Path:
    return write_set(tmp_path / "data" / "street")


def new(*args: str | Path) -> int:
    return run_cli(["new", *map(str, args)])


def require_good(file: Path) -> str:
    """A file that checks without a warning and is laid out; its text."""
    program, text = load(file), file.read_text(encoding="utf-8")
    assert not program.warnings and format_text(text) == text
    assert not [line for line in text.splitlines() if len(line) > 120]
    return text


def test_a_program_states_what_was_chosen(street: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "deep" / "er" / "my.seg"
    assert new(file, "--data", street) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[-1] == f"next: segdsl train {file}" and max(map(len, lines[1:-1])) <= 80 and not err
    text, data = require_good(file), load(file).data
    assert (data.root, data.format, data.classes) == ("../../data/street", "common_semantic_segmentation", CLASSES)
    assert (data.train.subset, data.val.subset, str(data.input_size)) == ("train", "val", "64x96")
    assert list(data.train.augment) == ["crop", "photo", "flip"]
    assert text.splitlines()[2].startswith("## Written by `segdsl new`")


def test_the_comments_of_a_program(street: Path, tmp_path: Path, wording: Callable[..., None]) -> None:
    create_program(tmp_path / "street.seg", ProgramRequest(street), DESK)
    wording(require_good(tmp_path / "street.seg"), "street")
    write_demo_dataset(tmp_path / "demo", train=24, val=4)
    create_program(tmp_path / "demo.seg", ProgramRequest(tmp_path / "demo"), DESK)
    wording(require_good(tmp_path / "demo.seg"), "demo")


def test_the_object_has_every_choice_with_its_reason(
    street: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert new(tmp_path / "my file.seg", "--data", street, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"file", "choices", "next", "warnings"} and found["warnings"] == []
    assert found["next"] == f"segdsl train '{tmp_path / 'my file.seg'}'"
    assert set(found["choices"]["data.input_size"]) == {"value", "reason"}
    program = load(tmp_path / "my file.seg")
    assert found["choices"]["train.epochs"]["value"] == str(program.train.epochs)
    assert {"model", "train.loss", "data.train.batch", "data.train.augment.crop"} <= set(found["choices"])


def test_the_facts_are_those_of_a_slow_count(street: Path, tmp_path: Path) -> None:
    masks = [np.array(Image.open(path)) for path in sorted((street / "train" / "masks").iterdir())]
    masks[0][:] = 1  # an image without heaven and pole
    Image.fromarray(masks[0]).save(sorted((street / "train" / "masks").iterdir())[0])
    facts = create_program(tmp_path / "again.seg", ProgramRequest(street), DESK).facts
    labelled = sum(int((m != 255).sum()) for m in masks)
    assert facts.void == pytest.approx(sum(int((m == 255).sum()) for m in masks) / sum(m.size for m in masks))
    for k, found in enumerate(facts.classes):
        here = [m for m in masks if (m == k).any()]
        count = sum(int((m == k).sum()) for m in here)
        assert (found.images, found.share) == (len(here), pytest.approx(count / labelled))
        assert found.frequency == pytest.approx(count / sum(int((m != 255).sum()) for m in here))
    assert facts.classes[2].width == pytest.approx(2, abs=0.2) and facts.color_images == facts.sample_images == 8


@pytest.mark.parametrize("model", MODELS)
def test_every_model_makes_a_good_program_also_with_its_weights(street: Path, tmp_path: Path, model: str) -> None:
    file = tmp_path / "my.seg"
    assert new(file, "--data", street, "--model", model) == 0
    text = require_good(file)
    with_weights = re.sub(r"^# (weights \{|  backbone = .*|\})$", r"\1", text, flags=re.MULTILINE)
    file.write_text(with_weights, encoding="utf-8")
    assert load(file).weights == {"backbone": MODELS[model].weights} and not load(file).warnings


def test_a_dropped_step_is_dropped(tmp_path: Path) -> None:
    write_set(tmp_path / "set", classes=("left", "right", 'a "b" \\ c\u200b\u6f22'))
    assert new(tmp_path / "my.seg", "--data", tmp_path / "set") == 0
    text = require_good(tmp_path / "my.seg")
    assert list(load(tmp_path / "my.seg").data.train.augment) == ["crop", "photo"]
    assert re.search("^drop data.train.augment.flip  # .*`left`, `right`$", text, re.MULTILINE)
    assert "classes  " not in text  # a name with what is not seen is left to the data set


ODD = ["\u202eabc", "a\u200bb", "a\u00a0b", "#", "{", "true", "\u0430\u0441", "'", "e\u0301", "x" * 300]


def test_odd_names_of_classes_and_folders_are_quoted(tmp_path: Path) -> None:
    root = write_set(tmp_path / 'odd "set" \\ # \u6f22', classes=tuple(ODD))
    assert new(tmp_path / "my.seg", "--data", root) == 0
    program = load(tmp_path / "my.seg")
    assert not program.warnings and program.data.root == root.name
    shutil.rmtree(root)
    root = write_set(tmp_path / "plain", classes=tuple(name for name in ODD if name.isprintable()))
    assert new(tmp_path / "two.seg", "--data", root) == 0
    assert load(tmp_path / "two.seg").data.classes == tuple(name for name in ODD if name.isprintable())


def test_surfaces_are_flipped_and_rotated(tmp_path: Path) -> None:
    write_demo_dataset(tmp_path / "demo", train=24, val=4)
    assert new(tmp_path / "my.seg", "--data", tmp_path / "demo") == 0
    require_good(tmp_path / "my.seg")
    program = load(tmp_path / "my.seg")
    assert list(program.data.train.augment) == ["crop", "photo", "flip", "flip_top", "turn"]
    assert isinstance(program.train.loss, WeightedSum)


def test_a_root_is_seen_from_the_file(street: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(street)
    assert run_cli(["new", "my.seg", "--data", "."]) == 0
    assert load(street / "my.seg").data.root == "."
    (tmp_path / "link").symlink_to(street)
    assert new(tmp_path / "link" / "b.seg", "--data", tmp_path / "link") == 0
    assert load(street / "b.seg").data.root == "."


def test_subsets_can_be_named(street: Path, tmp_path: Path) -> None:
    assert new(tmp_path / "my.seg", "--data", street, "--subset", "val", "--subset", "train") == 0
    data = load(tmp_path / "my.seg").data
    assert (data.train.subset, data.val.subset) == ("val", "train")
    assert new(tmp_path / "b.seg", "--data", street, "--subset", "val") == 2
    assert new(tmp_path / "b.seg", "--data", street, "--subset", "val", "--subset", "none") == 1


def test_images_of_five_channels_get_a_model_for_them(street: Path, tmp_path: Path) -> None:
    import tifffile

    for path in (*(street / "train" / "images").iterdir(), *(street / "val" / "images").iterdir()):
        bands = np.random.default_rng(0).integers(0, 256, (64, 96, 5), np.uint8)
        tifffile.imwrite(path.with_suffix(".tif"), bands, photometric="minisblack", planarconfig="contig")
        path.unlink()
    file = tmp_path / "my.seg"
    assert new(file, "--data", street) == 0
    text = require_good(file)
    assert "LiteHRNet18(classes = len(data.classes), in_channels = 5)" in text and "# 5 channels" in text
    file.write_text(re.sub(r"^# (weights \{|  [ab].* = .*|\})$", r"\1", text, flags=re.MULTILINE), encoding="utf-8")
    assert load(file).adapt_weights and load(file).graph.inputs["image"][1] == 5


def test_the_background_can_be_named(tmp_path: Path) -> None:
    for folder in ("images", "annotations"):
        (tmp_path / "set" / folder).mkdir(parents=True)
    for subset in ("train", "val"):
        Image.fromarray(np.full((64, 64, 3), len(subset), np.uint8)).save(tmp_path / "set" / "images" / f"{subset}.png")
        content = {
            "images": [{"id": 1, "file_name": f"{subset}.png", "height": 64, "width": 64}],
            "categories": [{"id": 1, "name": "cell"}],
            "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[9, 9, 40, 9, 40, 40]]}],
        }
        (tmp_path / "set" / "annotations" / f"instances_{subset}.json").write_text(json.dumps(content))
    assert new(tmp_path / "my.seg", "--data", tmp_path / "set", "--background", "rest") == 0
    data = load(tmp_path / "my.seg").data
    assert (data.background, data.classes, data.format) == ("rest", ("rest", "cell"), "coco_instances")
    assert run_cli(["data", "check", str(tmp_path / "my.seg")]) == 0
    with pytest.raises(SegError) as caught:
        create_program(tmp_path / "none.seg", ProgramRequest(tmp_path / "set", background="void"), DESK)
    assert caught.value.diagnostics[0].slug == "too-few-classes"


def test_an_ignore_value_that_is_also_a_class_is_allowed(street: Path, tmp_path: Path) -> None:
    for path in street.rglob("masks/*.png"):
        mask = np.array(Image.open(path))
        Image.fromarray(np.where(mask == 255, 0, mask)).save(path)
    assert new(tmp_path / "my.seg", "--data", street, "--ignore", "0") == 0
    assert [d.slug for d in load(tmp_path / "my.seg").warnings] == ["ignore-is-class"]


def test_only_the_two_subsets_are_read(street: Path, tmp_path: Path) -> None:
    shutil.copytree(street / "val", street / "test")
    next((street / "test" / "masks").iterdir()).unlink()
    assert new(tmp_path / "my.seg", "--data", street) == 0


Spoil = Callable[[Path], object]
FAULTS: dict[str, tuple[Spoil, str, str]] = {
    "one subset": (lambda r: shutil.rmtree(r / "val"), "my.seg", "subset-single"),
    "names that do not tell": (
        lambda r: ((r / "val").rename(r / "a"), (r / "train").rename(r / "b")), "my.seg", "subset-unclear"),
    "no data": (shutil.rmtree, "my.seg", "data-root-missing"),
    "data at fault": (lambda r: (r / "val" / "masks" / "1.png").unlink(), "my.seg", "mask-missing"),
    "a file": (lambda r: r.parent.joinpath("my.seg").write_text("mine"), "data/my.seg", "program-exists"),
    "a link to nothing": (lambda r: r.parent.joinpath("my.seg").symlink_to("gone"), "data/my.seg", "program-exists"),
    "a folder": (lambda r: r.parent.joinpath("my.seg").mkdir(), "data/my.seg", "program-exists"),
    "another ending": (lambda r: None, "my.txt", "program-ending"),
    "a file in the way": (lambda r: r.parent.joinpath("file").touch(), "data/file/my.seg", "program-not-written"),
}  # fmt: skip


@pytest.mark.parametrize("case", FAULTS)
def test_an_error_is_reported_and_nothing_written(
    street: Path, tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil, name, slug = FAULTS[case]
    spoil(street)
    before = sorted(tmp_path.rglob("*"))
    assert new(tmp_path / name, "--data", street) == 1
    out, err = capsys.readouterr()
    assert not out and f"error[{slug}]" in err and str(tmp_path) in err and "= help: " in err
    assert sorted(tmp_path.rglob("*")) == before
    assert new(tmp_path / name, "--data", street, "--json") == 1
    assert json.loads(capsys.readouterr().out)["errors"][0]["slug"] == slug


def test_an_unprintable_folder_name_is_refused(tmp_path: Path) -> None:
    root = write_set(tmp_path / "a\nb")
    with pytest.raises(SegError) as caught:
        create_program(tmp_path / "my.seg", ProgramRequest(root), DESK)
    assert caught.value.diagnostics[0].slug == "program-not-written"


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(SegError, match="no space left"):
        creating.write_new_file(tmp_path / "my.seg", "seg 1\n")
    assert not list(tmp_path.iterdir())


def test_a_file_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    (tmp_path / "my.seg").write_text("mine")
    with pytest.raises(SegError) as caught:
        creating.write_new_file(tmp_path / "my.seg", "seg 1\n")
    assert caught.value.diagnostics[0].slug == "program-exists" and (tmp_path / "my.seg").read_text() == "mine"


def test_nothing_heavy_is_imported(street: Path, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom segdsl.cli.invoke import run_cli\n"
        f"assert run_cli(['new', {str(tmp_path / 'my.seg')!r}, '--data',"
        f" {str(street)!r}]) == 0\nassert not {{'torch', 'datumaro', 'openvino'}} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


EXPECTED = {
    "camvid_small": ("LiteHRNetS", "192x256", CrossEntropy, 4),
    "camvid": ("LiteHRNetS", "384x480", CrossEntropy, 8),
    "crackforest": ("LiteHRNet18", "320x480", WeightedSum, 8),
    "nuclei": ("LiteHRNetS", "256x256", CrossEntropy, 8),
}


@real
@pytest.mark.parametrize(
    "name", [n for n in EXPECTED if n != "camvid"] + [pytest.param("camvid", marks=pytest.mark.slow)]
)
def test_real_sets_get_programs_that_suit_them(name: str, tmp_path: Path) -> None:
    file = tmp_path / "my.seg"
    made = create_program(file, ProgramRequest(SHARED / name), DESK)
    text, program = require_good(file), load(file)
    model, size, loss, batch = EXPECTED[name]
    assert f"model = {model}(" in text and str(program.data.input_size) == size
    assert type(program.train.loss) is loss and program.data.train.batch == batch
    assert ("VerticalFlip(" in text) == (not name.startswith("camvid")) and made.facts.train_images > 20


def trained(file: Path, out: Path, *settings: str) -> list[float]:
    """The training loss of each epoch."""
    changes = [part for setting in settings for part in ("--set", setting)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "segdsl", "train", str(file), "--out", str(out), "--json", *changes]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = (out / "metrics.csv").read_text().splitlines()
    column = rows[0].split(",").index("train.loss")
    return [float(row.split(",")[column]) for row in rows[1:]]


@pytest.mark.slow
def test_a_program_learns(street: Path, tmp_path: Path) -> None:
    assert new(tmp_path / "my.seg", "--data", street) == 0
    losses = trained(tmp_path / "my.seg", tmp_path / "run", "train.epochs=8", "train.schedule=Warmup(4 iters)")
    assert losses[-1] < 0.8 * losses[0]


@real
@pytest.mark.slow
@pytest.mark.parametrize("name", EXPECTED)
def test_programs_of_real_sets_train(name: str, tmp_path: Path) -> None:
    create_program(tmp_path / "my.seg", ProgramRequest(SHARED / name), DESK)
    epochs = 1 if name == "camvid" else 3
    changes = (f"train.epochs={epochs}", "data.input_size=96x128", "train.schedule=Warmup(10 iters)")
    losses = trained(tmp_path / "my.seg", tmp_path / "run", *changes)
    assert len(losses) == epochs and losses[-1] <= losses[0]
