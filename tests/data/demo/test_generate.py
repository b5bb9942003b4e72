"""The demo data set: seeded, atomic, sound, and not to be solved by looking at colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import segdsl.data.demo.generate
from segdsl.data.check.checker import check_data
from segdsl.data.check.index import open_index
from segdsl.data.demo.defects import CLASSES, IGNORE, DefectStyle, draw_defects
from segdsl.data.demo.generate import MARKER_FILE, make_demo_sample, write_demo_dataset
from segdsl.data.demo.surfaces import MATERIALS
from segdsl.data.formats.layout import Request
from segdsl.diagnostics import SegError


def files(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_the_demo_is_sound_and_opens_as_its_format(tmp_path: Path) -> None:
    info = write_demo_dataset(tmp_path / "demo", train=12, val=6)
    assert (info.out, info.train, info.val, info.classes) == (tmp_path / "demo", 12, 6, CLASSES)
    report = check_data(info.out)
    assert not report.errors and {d.slug for d in report.warnings} <= {"class-absent"}
    assert report.subsets == {"train": 12, "val": 6} and report.classes == CLASSES
    assert (report.pixels["train"][[0, 1, 2, 3, IGNORE]] > 0).all()
    index = open_index(info.out, "common_semantic_segmentation", Request(["train", "val"], IGNORE))
    suffixes = {index.get_subset("train").get_image_path(i).suffix for i in range(12)}
    assert suffixes == {".jpg", ".png"}


def test_the_same_seed_gives_the_same_files_and_another_gives_others(tmp_path: Path) -> None:
    a, b, c = (write_demo_dataset(tmp_path / n, seed=s, train=3, val=2).out for n, s in (("a", 5), ("b", 5), ("c", 6)))
    assert files(a) == files(b)
    assert files(a).keys() == files(c).keys() and files(a) != files(c)


def test_a_picture_does_not_depend_on_how_many_there_are(tmp_path: Path) -> None:
    few = files(write_demo_dataset(tmp_path / "few", train=2, val=1).out)
    many = files(write_demo_dataset(tmp_path / "many", train=5, val=2).out)
    assert all(many[name] == data for name, data in few.items() if name != MARKER_FILE)


def test_train_and_val_share_no_picture() -> None:
    assert not (make_demo_sample(0, 0, 0)[0] == make_demo_sample(0, 1, 0)[0]).all()


def test_an_earlier_demo_is_replaced_whole(tmp_path: Path) -> None:
    out = write_demo_dataset(tmp_path / "demo", train=4, val=2).out
    (out / "train" / "images" / "extra.jpg").write_bytes(b"x")
    write_demo_dataset(out, train=2, val=1)
    assert len(list((out / "train" / "images").iterdir())) == 2
    assert [p.name for p in tmp_path.iterdir()] == ["demo"]


@pytest.mark.parametrize("name", ["photos", "file", "named"])
def test_what_is_no_demo_is_not_overwritten(tmp_path: Path, name: str) -> None:
    for folder in ("photos", "named"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.jpg").write_bytes(b"x")
    (tmp_path / "named" / MARKER_FILE).write_text("a file of that name, which someone else made")
    (tmp_path / "file").write_bytes(b"x")
    before = files(tmp_path)
    with pytest.raises(SegError) as caught:
        write_demo_dataset(tmp_path / name, train=1, val=1)
    (found,) = caught.value.diagnostics
    assert (found.slug, found.path) == ("demo-target-taken", str(tmp_path / name))
    assert files(tmp_path) == before


def test_an_empty_folder_may_be_filled(tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    assert (write_demo_dataset(tmp_path / "demo", train=1, val=1).out / MARKER_FILE).is_file()


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(folder: Path, seed: int, subset: int, number: int) -> None:
        if number == 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(segdsl.data.demo.generate, "_write_pair", full)
    with pytest.raises(SegError, match=r"demo-target-unwritable: .*no space left"):
        write_demo_dataset(tmp_path / "deep" / "demo", train=4, val=1)
    assert list((tmp_path / "deep").iterdir()) == []


def test_a_path_through_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(SegError, match="demo-target-unwritable"):
        write_demo_dataset(tmp_path / "file" / "demo", train=1, val=1)


@pytest.mark.parametrize("name", list(MATERIALS))
def test_every_material_is_a_texture_of_mean_0_and_deviation_1(name: str) -> None:
    texture = MATERIALS[name][0](np.random.default_rng(0), 96)
    assert texture.shape == (96, 96) and texture.dtype == np.float32
    assert abs(texture.mean()) < 1e-3 and abs(texture.std() - 1) < 1e-3


def test_defects_change_the_picture_where_the_mask_says_so() -> None:
    flat = np.full((96, 96, 3), 0.5, dtype=np.float32)
    for seed in range(20):
        picture, mask = draw_defects(np.random.default_rng(seed), flat, 0.7, DefectStyle())
        assert picture.shape == flat.shape and set(np.unique(mask)) <= {0, 1, 2, 3, IGNORE}
        change = np.abs(picture - flat).max(axis=2)
        for label in set(np.unique(mask)) - {0, IGNORE}:
            assert change[mask == label].mean() > 5 * change[mask == 0].mean() + 0.01


def pixels(subset: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Colours (N, 3) and classes (N) of all pixels of the first pictures of a subset but void."""
    pairs = [make_demo_sample(0, subset, number) for number in range(count)]
    colors = np.concatenate([image.reshape(-1, 3) for image, _ in pairs]).astype(int)
    target = np.concatenate([mask.ravel() for _, mask in pairs])
    return colors[target != IGNORE], target[target != IGNORE]


@pytest.mark.parametrize("bits", [3, 4, 5])
@pytest.mark.parametrize("prior", [0.0, 0.5, 1.0])
def test_a_classifier_of_single_colors_stays_under_a_defect_dice_of_0_4(
    bits: int, prior: float, demo_pixels: tuple[np.ndarray, ...]
) -> None:
    """The best class of every colour cell, learnt from training pictures; ``prior`` weighs how common they are."""
    colors, target, val_colors, val_target = demo_pixels

    def cell(rgb: np.ndarray) -> np.ndarray:
        r, g, b = (rgb >> (8 - bits)).T
        return (r << 2 * bits) | (g << bits) | b

    counts = np.stack([np.bincount(cell(colors)[target == k], minlength=8**bits) for k in range(4)]).astype(float)
    guess = (counts / counts.sum(1, keepdims=True) ** (1 - prior)).argmax(0)[cell(val_colors)]
    overlap = np.array([((guess == k) & (val_target == k)).sum() for k in range(4)])
    dice = 2 * overlap / np.array([(guess == k).sum() + (val_target == k).sum() for k in range(4)])
    assert dice[1:].mean() < 0.4
    assert dice[0] > 0.5


@pytest.fixture(scope="module")
def demo_pixels() -> tuple[np.ndarray, ...]:
    return (*pixels(0, 80), *pixels(1, 20))
