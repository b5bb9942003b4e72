"""Which images may be turned over or mirrored: `segdsl new` and `segdsl check` agree, and every step answers for it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from segdsl.ir.class_names import (
    FREE_WORDS,
    SIDED_WORDS,
    UPRIGHT_WORDS,
    find_free_classes,
    find_sided_classes,
    find_upright_classes,
)
from segdsl.ir.families import Augmentation
from segdsl.ir.values import Range
from segdsl.ir.word import list_words
from segdsl.lang.program import check_file
from segdsl.recipe.facts import ClassFacts, DatasetFacts, Offset
from segdsl.recipe.program import choose_augmentations
from segdsl.words.augmentations import Affine, HorizontalFlip, Rotate, VerticalFlip

CLASS_LISTS = [
    ("roof", "background"),
    ("roof", "sky"),
    ("roof", "road"),
    ("crack", "pavement"),
    ("pavement crack", "background"),
    ("left lung", "tissue"),
    ("nucleus", "cytoplasm"),
    ("thing", "background"),
]
MODEL = """
model Net(classes: int) {
  in image: [B, 3, H, W]

  head = image -> Conv(classes)
  out logits = head
}

model = Net(classes = len(data.classes))
"""


def make_facts(names: tuple[str, ...]) -> DatasetFacts:
    """Return the facts of a data set in which no class is above or below the center."""
    share, offset = 1 / len(names), Offset(0.0, 0.01, 50)
    classes = tuple(ClassFacts(name, share, share, 50, 20.0, offset) for name in names)
    return DatasetFacts(
        format="folders",
        ignore=255,
        classes=classes,
        train="train",
        val="val",
        train_images=100,
        val_images=20,
        sizes=Counter({(256, 256): 100}),
        void=0.0,
        sample_images=100,
        color_images=100,
    )


def test_no_word_means_two_things() -> None:
    assert not (UPRIGHT_WORDS & FREE_WORDS or UPRIGHT_WORDS & SIDED_WORDS or FREE_WORDS & SIDED_WORDS)


def test_whole_words_count() -> None:
    assert find_upright_classes(["background", "skyline", "blueSky", "road_2"]) == ["blueSky", "road_2"]
    assert find_upright_classes(["pavement crack"]) == [] and find_free_classes(["pavement crack", "roof"])
    assert find_sided_classes(["leftover", "Left lung"]) == ["Left lung"]


@pytest.mark.parametrize("names", CLASS_LISTS, ids=" and ".join)
def test_new_never_writes_what_check_warns_of(names: tuple[str, ...], tmp_path: Path) -> None:
    steps = choose_augmentations(make_facts(names), (256, 256))
    listing = ", ".join(f'"{name}"' for name in names)
    lines = [f"data.train.augment.{name} = {step.value}" for name, step in steps.items() if step.value]
    path = tmp_path / "main.seg"
    path.write_text("\n".join(['seg 1', "", 'extends "std/semantic.seg"', f"data.classes = [{listing}]",
                               *(f"drop data.train.augment.{name}" for name, step in steps.items() if not step.value),
                               *lines, MODEL]), encoding="utf-8")  # fmt: skip
    _, warnings, _ = check_file(path, ())
    assert [found.slug for found in warnings if found.slug.startswith("flip-")] == []


def test_a_roof_may_be_turned_over_by_both() -> None:
    assert "flip_top" in choose_augmentations(make_facts(("roof", "background")), (256, 256))
    assert "flip_top" not in choose_augmentations(make_facts(("roof", "street")), (256, 256))
    assert find_upright_classes(["roof"]) == []


def test_a_step_tells_whether_it_turns_or_mirrors_an_image() -> None:
    wide, right_angle = Range(-120, 0, "deg"), Range(-90, 90, "deg")
    turning = [VerticalFlip(), Rotate(range=wide), Affine(rotate=wide)]
    assert all(step.turns_upside_down for step in turning)
    upright = [VerticalFlip(p=0), HorizontalFlip(), Rotate(), Rotate(range=right_angle), Affine(rotate=right_angle)]
    assert not any(step.turns_upside_down for step in upright)
    mirroring = {name for name, word in list_words(Augmentation).items() if word.make_gallery_example().swaps_sides}
    assert mirroring == {"HorizontalFlip", "VerticalFlip"}
