"""The pictures of the augmentations in the reference: one for each, and none of what is no augmentation."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import segdsl.words  # noqa: F401 - importing registers every word
from segdsl.data.pictures import gallery
from segdsl.data.pictures.gallery import (
    FIRST_GAP,
    GAP,
    HEIGHT,
    MAX_BYTES,
    TILE_SIZE,
    WIDTH,
    render_augmentation,
    write_gallery,
)
from segdsl.editor.reference import GALLERY_FOLDER
from segdsl.ir.program import Augmentation
from segdsl.ir.word import list_words
from segdsl.words import augmentations as words

GRAMMAR = Path(__file__).resolve().parents[3] / "grammar"
NAMES = sorted(list_words(Augmentation))


def test_every_augmentation_has_its_picture_and_there_is_no_other() -> None:
    assert sorted(path.name for path in (GRAMMAR / GALLERY_FOLDER).iterdir()) == [f"{name}.jpg" for name in NAMES]


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_is_small_and_of_the_size_that_is_drawn(name: str) -> None:
    path = GRAMMAR / GALLERY_FOLDER / f"{name}.jpg"
    assert path.stat().st_size < MAX_BYTES
    assert Image.open(path).size == (WIDTH, HEIGHT) and WIDTH == 900


def test_the_reference_shows_each_where_it_is_explained() -> None:
    page = (GRAMMAR / "REFERENCE.md").read_text(encoding="utf-8")
    parts = dict(re.findall(r"^#### `(\w+)`\n(.*?)(?=^##)", page, re.DOTALL | re.MULTILINE))
    links = {name: re.findall(r"\]\((.+?\.jpg)\)", part) for name, part in parts.items()}
    assert {name: found for name, found in links.items() if found} == {n: [f"{GALLERY_FOLDER}/{n}.jpg"] for n in NAMES}


def panels(pixels: np.ndarray) -> list[np.ndarray]:
    lefts = [0, *(TILE_SIZE + FIRST_GAP + k * (TILE_SIZE + GAP) for k in range(4))]
    return [pixels[:, left : left + TILE_SIZE] for left in lefts]


def test_a_strip_has_the_picture_and_draws_of_it() -> None:
    picture = render_augmentation(words.HorizontalFlip)
    assert picture.shape == (HEIGHT, WIDTH, 3) and picture.dtype == np.uint8
    first, *draws = panels(picture)
    kept = [np.array_equal(draw[:TILE_SIZE], first[:TILE_SIZE]) for draw in draws]
    turned = [np.array_equal(draw[:TILE_SIZE], first[:TILE_SIZE, ::-1]) for draw in draws]
    assert len(draws) == 4 and sum(kept) == sum(turned) == 2
    assert np.array_equal(picture, render_augmentation(words.HorizontalFlip))


@pytest.mark.parametrize("name", NAMES)
def test_something_is_seen_of_every_step(name: str) -> None:
    step = list_words(Augmentation)[name].make_gallery_example()
    certain = getattr(step, "p", 1.0) == 1.0
    first, *draws = panels(render_augmentation(list_words(Augmentation)[name]))
    changed = sum(not np.array_equal(draw, first) for draw in draws)
    assert changed == 4 if certain else 1 <= changed <= 3


def test_the_script_draws_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery, "list_words", lambda family: {"Grayscale": words.Grayscale})
    assert write_gallery([str(tmp_path / "new")]) == 0
    assert Image.open(tmp_path / "new" / "Grayscale.jpg").size == (WIDTH, HEIGHT)


def test_a_call_without_a_folder_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert write_gallery([]) == 2 and write_gallery(["--help"]) == 2
    assert "usage: " in capsys.readouterr().err
