"""The sheet of a dataset: every class in its color, complete or not at all, and over nothing that is worth more."""

from __future__ import annotations

import json
import re
from base64 import b64decode
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segdsl.cli.invoke import run_cli
from segdsl.data.check.index import open_index
from segdsl.data.formats.layout import DEFAULT_REQUEST
from segdsl.data.pictures.contact_sheet import BOX, PAIRS_PER_ROW, write_contact_sheet
from segdsl.data.pictures.grid import GAP
from segdsl.data.pictures.palette import choose_colors, format_color, make_class_colors
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


def sheet_of(root: Path, out: Path) -> Path:
    assert run_cli(["data", "stats", str(root), "--out", str(out)]) == 0
    return out


def page_of(root: Path, out: Path) -> str:
    return sheet_of(root, out).read_text(encoding="utf-8")


def colors_in(path: Path) -> set[tuple[int, ...]]:
    return {tuple(c) for c in np.unique(np.array(Image.open(path).convert("RGB")).reshape(-1, 3), axis=0).tolist()}


def legend_of(page: str) -> list[str | None]:
    legend = page[page.index('<ul class="legend') :].partition("</ul>")[0]
    return [
        None if "hatch" in entry else re.findall('fill="(#[0-9a-f]{6})"', entry)[0]
        for entry in legend.split("<li>")[1:]
    ]


def test_a_page_shows_every_class_in_its_color(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, out = write_set(tmp_path / "set", [(48, 64)] * 5), tmp_path / "new" / "sheet.html"
    page = page_of(root, out)
    assert str(out) in capsys.readouterr().out and [p.name for p in out.parent.iterdir()] == ["sheet.html"]
    assert legend_of(page) == [*map(format_color, make_class_colors(CLASSES)), None], "ignored pixels are hatched"
    pictures = re.findall(r'<img src="data:image/jpeg;base64,([^"]+)" alt="([^"]+)" width="(\d+)" height="(\d+)"', page)
    assert len(pictures) == 10, "each image and its mask"
    for content, _, width, height in pictures:
        assert Image.open(BytesIO(b64decode(content))).size == (int(width), int(height)) == (320, 240)
    assert {alt for _, alt, *_ in pictures} == {f"{mask}p{k}.png" for k in range(5) for mask in ("", "the mask of ")}
    assert "20.3%" in page and "Classes in train" in page


def test_a_page_loads_and_runs_nothing_of_its_dataset(tmp_path: Path) -> None:
    script = "<script>window.hacked = 1</script>"
    root = write_set(tmp_path / "s\u202eet & <b>", [(48, 64)] * 2, ("background", script, "c\u202e"))
    for kind in ("images", "masks"):
        (root / "train" / kind / "p0.png").rename(root / "train" / kind / "<img src=x onerror=y>.png")
    page = page_of(root, tmp_path / "sheet.html")
    assert page.count("<script") == 1 and "&lt;script&gt;window.hacked" in page
    assert "onerror" not in re.sub("&lt;.*?&gt;", "", page) and "\u202e" not in page and "<b>" not in page
    assert "url(" not in page and "@import" not in page and "http" not in re.sub('http-equiv="', "", page)


def test_a_grid_has_the_images_and_no_text(tmp_path: Path) -> None:
    root = write_set(tmp_path / "set", [(48, 64)] * 5)
    picture = Image.open(sheet_of(root, tmp_path / "sheet.png"))
    columns, rows = 2 * PAIRS_PER_ROW, -(-5 // PAIRS_PER_ROW)
    assert picture.size == (columns * (BOX[1] + GAP) + GAP, rows * (BOX[0] + GAP) + GAP)
    # The leftmost class has no border in its full color.
    assert {*make_class_colors(CLASSES)[1:], (DARK_GRAY,) * 3, (LIGHT_GRAY,) * 3} <= colors_in(tmp_path / "sheet.png")
    assert (np.array(picture)[: BOX[0] + GAP, GAP : GAP + BOX[1]][GAP:] == 200).all(), "the first image, enlarged"


def test_a_dataset_is_drawn_in_its_own_colors(tmp_path: Path) -> None:
    own = [[10, 20, 30], [200, 100, 50], None, [1, 2, 3]]
    root, out = write_set(tmp_path / "set", [(48, 64)], colors=own), tmp_path / "sheet.png"
    sheet_of(root, out)
    chosen = make_class_colors(CLASSES)
    expected = [(10, 20, 30), (200, 100, 50), chosen[2], (1, 2, 3)]
    labels = open_index(root, "auto", DEFAULT_REQUEST).labels
    assert choose_colors(labels) == expected and set(expected[1:]) <= colors_in(out)
    assert legend_of(page_of(root, tmp_path / "s.html"))[:4] == list(map(format_color, expected))


@pytest.mark.parametrize("ending", ["png", "html"])
def test_the_same_set_gives_the_same_file(tmp_path: Path, ending: str) -> None:
    root = write_set(tmp_path / "set", [(20, 64), (64, 20), (300, 300)] * 6)
    first, second = (sheet_of(root, tmp_path / f"{name}.{ending}") for name in "ab")
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("size", [(400, 20), (20, 400), (1, 1), (2000, 3000)])
def test_any_shape_fits(tmp_path: Path, size: tuple[int, int]) -> None:
    root = write_set(tmp_path / "set", [size], CLASSES if size != (1, 1) else ("background", "other"))
    assert Image.open(sheet_of(root, tmp_path / "s.png")).width == 2 * (BOX[1] + GAP) + GAP
    assert f"{size[0]}x{size[1]}" in page_of(root, tmp_path / "s.HTM")


def test_many_classes_of_long_and_foreign_names_fit(tmp_path: Path) -> None:
    names = tuple(f"{'long ' * 90}{k}" if k % 2 else f"\u6f22{k}\u00e9" for k in range(60))
    page = page_of(write_set(tmp_path / "s\u00ebt \u6f22", [(48, 130)], names), tmp_path / "s.html")
    assert "<h1><bdi>s\u00ebt \u6f22</bdi></h1>" in page and all(f"<bdi>{name}</bdi>" in page for name in names)


def test_jpeg_is_written_as_such(tmp_path: Path) -> None:
    assert Image.open(sheet_of(write_set(tmp_path / "set", [(48, 64)]), tmp_path / "s.JPG")).format == "JPEG"


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

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(SegError) as caught:
        write_contact_sheet(survey_dataset(root, "auto"), out)
    assert caught.value.diagnostics[0].slug == "sheet-not-written"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["set", "sheet.png"] and out.read_bytes() == b"older"


def test_thin_things_stay_in_a_thumbnail() -> None:
    mask = np.zeros((400, 400), np.uint8)
    mask[:, 201:203] = 1
    mask[7, 9] = 2
    small = shrink_mask(mask, (50, 50))
    assert (small == 1).sum() in (50, 100) and (small == 2).sum() == 1
    assert np.array_equal(shrink_mask(mask, (400, 400)), mask)


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
