"""The sheet of a data set: every class in its colour, whole or not at all, and over nothing that is worth more."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segdsl.cli.invoke import run_cli
from segdsl.data.check.index import open_index
from segdsl.data.formats.layout import DEFAULT_REQUEST
from segdsl.data.pictures import canvas
from segdsl.data.pictures.canvas import WIDTH, choose_colors
from segdsl.data.pictures.contact_sheet import compute_sheet_geometry, write_contact_sheet
from segdsl.data.pictures.palette import make_class_colors
from segdsl.data.pictures.text import load_font, make_readable, shorten_text
from segdsl.data.pictures.thumbnails import DARK_GRAY, LIGHT_GRAY, draw_overlay, find_borders, fit_box, shrink_mask
from segdsl.data.stats.survey import survey_dataset
from segdsl.diagnostics import SegError

CLASSES = ("background", "a", "b", "c")


def write_set(
    root: Path, sizes: list[tuple[int, int]], classes: tuple[str, ...] = CLASSES, colors: object = None
) -> Path:
    """An image of each size, of one colour, in whose mask the classes and void stand in columns."""
    for kind in ("images", "masks"):
        (root / "train" / kind).mkdir(parents=True)
    meta = {"label_map": {str(k): name for k, name in enumerate(classes)}, "segmentation_colors": colors}
    (root / "train" / "dataset_meta.json").write_text(json.dumps(meta), encoding="utf-8")
    for number, (height, width) in enumerate(sizes):
        mask = np.repeat(np.arange(width)[None] * (len(classes) + 1) // width, height, axis=0).astype(np.uint8)
        mask[mask == len(classes)] = 255
        Image.fromarray(mask).save(root / "train" / "masks" / f"p{number}.png")
        image = np.full((height, width, 3), 200 - number, np.uint8)
        Image.fromarray(image).save(root / "train" / "images" / f"p{number}.png")
    return root


def colors_in(path: Path) -> set[tuple[int, ...]]:
    return {tuple(c) for c in np.unique(np.array(Image.open(path).convert("RGB")).reshape(-1, 3), axis=0).tolist()}


def sheet_of(root: Path, out: Path) -> Image.Image:
    assert run_cli(["data", "stats", str(root), "--out", str(out)]) == 0
    return Image.open(out)


def test_a_sheet_shows_every_class_in_its_colour(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, out = write_set(tmp_path / "set", [(48, 64)] * 5), tmp_path / "new" / "sheet.png"
    picture = sheet_of(root, out)
    assert str(out) in capsys.readouterr().out
    geometry = compute_sheet_geometry(survey_dataset(root, "auto"))
    assert picture.size[0] == WIDTH and geometry.columns == 3 and geometry.width == round(geometry.height * 4 / 3)
    rows = -(-5 // geometry.columns)
    assert picture.height > rows * geometry.height and [p.name for p in out.parent.iterdir()] == ["sheet.png"]
    assert {*make_class_colors(CLASSES), (DARK_GRAY,) * 3, (LIGHT_GRAY,) * 3} <= colors_in(out)


def test_a_set_is_drawn_in_its_own_colours(tmp_path: Path) -> None:
    own = [[10, 20, 30], [200, 100, 50], None, [1, 2, 3]]
    root, out = write_set(tmp_path / "set", [(48, 64)], colors=own), tmp_path / "sheet.png"
    sheet_of(root, out)
    chosen = make_class_colors(CLASSES)
    expected = [(10, 20, 30), (200, 100, 50), chosen[2], (1, 2, 3)]
    labels = open_index(root, "auto", DEFAULT_REQUEST).labels
    assert choose_colors(labels) == expected and set(expected) <= colors_in(out)


def test_the_same_set_gives_the_same_file(tmp_path: Path) -> None:
    root = write_set(tmp_path / "set", [(20, 64), (64, 20), (300, 300)] * 6)
    for name in ("a.png", "b.png"):
        sheet_of(root, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize("size", [(400, 20), (20, 400), (1, 1), (2000, 3000)])
def test_any_shape_fits(tmp_path: Path, size: tuple[int, int]) -> None:
    classes = CLASSES if size != (1, 1) else ("background",)
    assert sheet_of(write_set(tmp_path / "set", [size], classes), tmp_path / "s.png").width == WIDTH


def test_many_classes_of_long_and_foreign_names_fit(tmp_path: Path) -> None:
    names = tuple(f"{'long ' * 90}{k}" if k % 2 else f"\u6f22{k}\u00e9" for k in range(60))
    picture = sheet_of(write_set(tmp_path / "s\u00ebt \u6f22", [(48, 130)], names), tmp_path / "s.png")
    edge = np.array(picture)[:, [*range(40), *range(WIDTH - 40, WIDTH)]]
    assert (edge == 255).all()  # the margins are free


def test_jpeg_is_written_as_such(tmp_path: Path) -> None:
    assert sheet_of(write_set(tmp_path / "set", [(48, 64)]), tmp_path / "s.JPG").format == "JPEG"


@pytest.mark.parametrize(
    ("name", "slug"),
    [("sheet.txt", "sheet-ending"), ("sheet", "sheet-ending"), ("folder.png", "sheet-target-taken"),
     ("set/train/images/new.png", "sheet-target-taken"), ("set/train/images/p0.png", "sheet-target-taken"),
     ("link.png", "sheet-target-taken"), ("file/sheet.png", "sheet-not-written")],
)  # fmt: skip
def test_a_place_that_is_none_is_refused(
    tmp_path: Path, name: str, slug: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_set(tmp_path / "set", [(48, 64)])
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "link.png").symlink_to(root / "train" / "images" / "p0.png")
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    assert run_cli(["data", "stats", str(root), "--out", str(tmp_path / name)]) == 1
    out, err = capsys.readouterr()
    assert not out and err.startswith(f"error[{slug}]") and str(tmp_path) in err and "= help: " in err
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before


def test_a_sheet_that_cannot_be_put_in_place_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, out = write_set(tmp_path / "set", [(48, 64)]), tmp_path / "sheet.png"
    out.write_bytes(b"older")

    def refuse(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(canvas.Path, "replace", refuse)
    with pytest.raises(SegError) as caught:
        write_contact_sheet(survey_dataset(root, "auto"), out)
    assert caught.value.diagnostics[0].slug == "sheet-not-written"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["set", "sheet.png"] and out.read_bytes() == b"older"


def test_thin_things_stay_in_a_thumbnail() -> None:
    mask = np.zeros((400, 400), np.uint8)
    mask[:, 201:203] = 1
    mask[7, 9] = 2
    small = shrink_mask(mask, (50, 50), [0, 1, 2])
    assert (small == 1).sum() in (50, 100) and (small == 2).sum() == 1
    assert np.array_equal(shrink_mask(mask, (400, 400), [0, 1, 2]), mask)


def test_a_mask_is_drawn_over_its_image() -> None:
    mask = np.repeat([[0, 0, 1, 1, 255, 255]], 4, axis=0).astype(np.uint8)
    image = np.full((4, 6, 3), 100, np.uint8)
    over = draw_overlay(image, mask, [(0, 0, 0), (200, 0, 100)], 255)
    assert find_borders(mask)[0].tolist() == [False, False, True, False, True, False]
    assert over[0, :4].tolist() == [[40] * 3, [40] * 3, [200, 0, 100], [160, 40, 100]]
    assert set(over[:, 4:].ravel().tolist()) <= {DARK_GRAY, LIGHT_GRAY}


def test_a_box_is_filled_without_another_shape() -> None:
    assert fit_box(100, 200, (50, 50)) == (25, 50) and fit_box(10, 5, (40, 40)) == (40, 20)
    assert fit_box(1, 5000, (40, 40)) == (1, 40)


def test_names_are_cut_and_spelt_in_letters_that_are_there() -> None:
    face = load_font(16)
    text = shorten_text("a_very_long_name_of_0123.png", face, 120)
    assert face.getlength(text) <= 120 and text.startswith("a_") and text.endswith(".png") and "…" in text
    assert shorten_text("short", face, 120) == "short" and shorten_text(
        "train  ·  3 x 4", face, 60, at_end=True
    ).endswith("…")
    assert (
        make_readable("f\u00fcr \u6f22 x", "class 3") == "fur ? x" and make_readable("\u6f22", "class 3") == "class 3"
    )
