"""The choices of `segdsl new`, fact by fact."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segdsl.cli.commands.new import MODELS as OFFERED
from segdsl.data.decode.decoded_cache import get_total_memory
from segdsl.diagnostics import SegError
from segdsl.ir.class_names import split_words
from segdsl.recipe.balance import choose_loss, compute_class_weights
from segdsl.recipe.choice import format_duration, format_percent
from segdsl.recipe.content import (
    decide_vertical_flip,
    find_offset_class,
    find_thin_classes,
    has_mostly_thin_classes,
)
from segdsl.recipe.cost import Cost, compute_model_cost
from segdsl.recipe.facts import ClassFacts, DatasetFacts, Offset, PairMeasurements, measure_outline, pick_evenly
from segdsl.recipe.machine import GIB, Machine, read_accelerator_memory
from segdsl.recipe.plan import MODELS, LibraryModel, choose_input_size, is_uneven, make_plan, shrink_size
from segdsl.recipe.program import choose_augmentations, choose_crop
from segdsl.recipe.subsets import pick_subsets
from segdsl.text.plural import format_count
from segdsl.words.formats import COCO, FOLDERS

DESK, SERVER = Machine(cores=2, memory=24 * GIB), Machine(cores=16, memory=256 * GIB, accelerator_bytes=80 * GIB)


def kind(name: str, share: float, **more: Any) -> ClassFacts:
    """A class in the middle of the 50 images that show it, and 20 pixels wide."""
    usual = {"frequency": share, "images": 50, "width": 20.0, "offset": Offset(0.0, 0.01, 50)}
    return ClassFacts(name, share, **{**usual, **more})


def facts(*classes: ClassFacts, **more: Any) -> DatasetFacts:
    """A hundred images of 256x256 in colour, of two classes unless others are given."""
    usual: dict[str, Any] = {
        "format": "folders", "ignore": 255, "train": "train", "val": "val", "train_images": 100, "val_images": 20,
        "sizes": Counter({(256, 256): 100}), "void": 0.01, "sample_images": 100, "color_images": 100,
    }  # fmt: skip
    return DatasetFacts(classes=classes or (kind("background", 0.7), kind("thing", 0.3)), **{**usual, **more})


def many(*shares: float) -> DatasetFacts:
    return facts(*(kind(f"class {k}", share) for k, share in enumerate(shares)))


NEVER = kind("never", 0.0, frequency=0.0, images=0)
LOSSES = {
    "balanced": (many(0.6, 0.4), "CrossEntropy(ignore = data.ignore)", "40.0 %"),
    "just balanced": (many(0.95, 0.05), "CrossEntropy(ignore = data.ignore)", "5.00 %"),
    "one class alone": (many(1.0), "CrossEntropy(ignore = data.ignore)", "fewer than two"),
    "a class that never occurs": (
        facts(kind("a", 0.5), kind("b", 0.5), NEVER), "CrossEntropy(ignore = data.ignore)", "50.0 %"),
    "nearly all background": (
        many(0.98, 0.02), "WeightedSum([CrossEntropy(ignore = data.ignore), Dice(background = false)])", "98.0 %"),
    "the second is nearly all": (
        many(0.02, 0.98), "WeightedSum([CrossEntropy(ignore = data.ignore), Dice()])", "2.00 %"),
    "three on a background": (
        many(0.9, 0.04, 0.03, 0.03), "WeightedSum([CrossEntropy(ignore = data.ignore), Dice(background = false)])", ""),
    "one of several is rare": (
        many(0.5, 0.48, 0.02), "CrossEntropy(ignore = data.ignore, class_weights = auto)", "0.96 to 10"),
    "many on a background": (
        many(0.9, *[0.004] * 25), "WeightedSum([CrossEntropy(ignore = data.ignore), Dice(background = false)])", "0.4"),
    "many without one": (
        many(0.7, *[0.012] * 25), "CrossEntropy(ignore = data.ignore, class_weights = auto)", "1.20 %"),
}  # fmt: skip


@pytest.mark.parametrize("case", LOSSES)
def test_the_loss_suits_the_balance(case: str) -> None:
    given, value, reason = LOSSES[case]
    found = choose_loss(given)
    assert found.value == value and reason in found.reason


def test_weights_are_median_frequencies_within_bounds() -> None:
    of = facts(kind("a", 0.6, frequency=0.6), kind("b", 0.3, frequency=0.2), NEVER, kind("c", 0.1, frequency=0.05),
               kind("d", 0.0001, frequency=0.0001))  # fmt: skip
    middle = (0.05 + 0.2) / 2
    assert compute_class_weights(of) == pytest.approx([middle / 0.6, middle / 0.2, 1.0, middle / 0.05, 10.0])
    assert compute_class_weights(facts(kind("void", 0.5), kind("a", 0.3), kind("b", 0.2), ignore=0))[0] == 1.0


LOW, HIGH, NOISY = Offset(0.3, 0.01, 50), Offset(-0.2, 0.01, 50), Offset(0.2, 0.1, 50)
POSTURES = {
    "a class lies low": (facts(kind("crack", 0.5, offset=LOW), kind("b", 0.5)), False, "0.30 of the image"),
    "the farthest is named": (facts(kind("a", 0.5, offset=LOW), kind("b", 0.5, offset=HIGH)), False, "`a`"),
    "a class lies high": (facts(kind("a", 0.5, offset=HIGH), kind("b", 0.5)), False, "0.20 of the image"),
    "noise is no place": (facts(kind("crack", 0.5, offset=NOISY), kind("b", 0.5)), True, "0.20±0.10"),
    "a small offset is no place": (facts(kind("crack", 0.5, offset=Offset(0.04, 0.001, 50))), True, "`crack`"),
    "names of an upright camera": (facts(kind("sky", 0.5), kind("crack", 0.5)), False, "`sky`"),
    "names that do not tell": (facts(), False, "class names"),
    "too few images": (facts(kind("cell", 0.5, offset=Offset(0.3, math.inf, 4)), train_images=4), False, "4 images"),
    "camel case": (facts(kind("cellNucleus", 0.5), kind("other", 0.5)), True, "`cellNucleus`"),
}


@pytest.mark.parametrize("case", POSTURES)
def test_images_are_flipped_only_without_a_fixed_orientation(case: str) -> None:
    given, free, reason = POSTURES[case]
    assert decide_vertical_flip(given)[0] is free and reason in decide_vertical_flip(given)[1]
    steps = choose_augmentations(given, (256, 256))
    assert ("flip_top" in steps, "turn" in steps) == (free, free) and steps["flip"].value == "HorizontalFlip(p = 0.5)"


@pytest.mark.parametrize("name", ["left lung", "turn_right", "Text", "digit 7"])
def test_classes_with_a_side_are_not_mirrored(name: str) -> None:
    steps = choose_augmentations(facts(kind(name, 0.5), kind("crack", 0.5)), (256, 256))
    assert steps["flip"].value == "" and name in steps["flip"].reason and "flip_top" not in steps


@pytest.mark.parametrize("name", ["leftover", "texture", "sign", "copyright"])
def test_a_side_is_matched_as_a_whole_word(name: str) -> None:
    assert choose_augmentations(facts(kind(name, 0.5), kind("b", 0.5)), (256, 256))["flip"].value


@pytest.mark.parametrize(("colored", "hue"), [(0, "hue = 0 deg"), (4, "hue = 0 deg"), (5, "()"), (100, "()")])
def test_grey_images_keep_their_hue(colored: int, hue: str) -> None:
    photo = choose_augmentations(facts(color_images=colored), (256, 256))["photo"]
    assert hue in photo.value and ("saturation = 1.0..1.0" in photo.value) == (colored < 5)


SIZES = {
    "as it is": ({(256, 320): 9}, 20.0, (256, 320), "all images are 256x320"),
    "to the nearest": ({(360, 480): 9}, 20.0, (352, 480), "nearest multiples of 32"),
    "thin things are rounded up": ({(360, 480): 9}, 3.0, (384, 480), "`thing` is 3.0 px wide"),
    "thin and as it is": ({(320, 480): 9}, 3.0, (320, 480), "all images are 320x480"),
    "the middle of several": ({(100, 100): 2, (256, 256): 5, (512, 640): 3}, 20.0, (256, 256), "height 100 to 512"),
    "not too small": ({(20, 30): 5}, 20.0, (64, 64), "nearest"),
}


@pytest.mark.parametrize("case", SIZES)
def test_the_input_has_the_size_of_the_images(case: str) -> None:
    sizes, width, expected, reason = SIZES[case]
    given = facts(kind("background", 0.7), kind("thing", 0.3, width=width), sizes=Counter(sizes))
    assert choose_input_size(given)[0] == expected and reason in choose_input_size(given)[1]


CROPS = {
    "usual": ({(256, 256): 9}, 20.0, "scale = 0.25..1.0, ratio = 0.75..1.33"),
    "wide": ({(256, 512): 9}, 20.0, "scale = 0.25..1.0, ratio = 1.50..2.66"),
    "thin": ({(256, 256): 9}, 3.0, "scale = 0.5..1.0, ratio = 0.75..1.33"),
    "uneven": ({(256, 256): 9, (512, 512): 1}, 20.0, "scale = 0.2..1.0, ratio = 0.75..1.33"),
    "uneven in shape": ({(256, 256): 9, (256, 512): 1, (512, 256): 1}, 3.0, "scale = 0.2..1.0, ratio = 0.50..2.00"),
    "beyond what the word takes": ({(100, 2000): 9}, 20.0, "ratio = 10.00..10.00"),
}


@pytest.mark.parametrize("case", CROPS)
def test_windows_have_the_shapes_that_are_scored(case: str) -> None:
    sizes, width, expected = CROPS[case]
    given = facts(kind("background", 0.7), kind("thing", 0.3, width=width), sizes=Counter(sizes))
    assert expected in choose_crop(given, choose_input_size(given)[0]).value
    assert is_uneven(given) == case.startswith("uneven")


def test_the_largest_class_is_never_thin() -> None:
    given = facts(kind("bg", 0.9, width=2.0), kind("a", 0.05, width=5.9), kind("b", 0.03, width=1.5), kind("c", 0.02))
    assert [c.name for c in find_thin_classes(given)] == ["b", "a"] and has_mostly_thin_classes(given)
    assert not has_mostly_thin_classes(
        facts(kind("bg", 0.9), kind("a", 0.05), kind("b", 0.03), kind("c", 0.02, width=1.0))
    )


def fixed(nodes: float = 50 * 2**20, macs: float = 0.2e9) -> Any:
    """A cost of so many bytes and operations for each 256x256 pixels, whatever the model."""
    return lambda model, size: Cost(nodes, 2**19, macs, 10**6).scale_pixels(size[0] * size[1] / 256**2)


MODEL_CASES = {
    "few images": (facts(), DESK, "LiteHRNetS"),
    "many images": (facts(train_images=1000), DESK, "SegNeXtT"),
    "thin things": (facts(kind("bg", 0.9), kind("line", 0.1, width=3.0)), DESK, "LiteHRNet18"),
    "thin things on a server": (facts(kind("bg", 0.9), kind("line", 0.1, width=3.0)), SERVER, "LiteHRNetX"),
}


@pytest.mark.parametrize("case", MODEL_CASES)
def test_the_model_suits_the_number_and_the_width(case: str) -> None:
    given, machine, expected = MODEL_CASES[case]
    found = make_plan(given, machine, compute_cost=fixed())
    assert found.model.name == expected and found.choices["model"].reason
    assert make_plan(given, machine, "SegNeXtB", fixed()).model.name == "SegNeXtB"


def test_a_model_that_the_machine_is_too_small_for_is_passed_over() -> None:
    def cost_of(model: LibraryModel, size: tuple[int, int]) -> Cost:
        return fixed(nodes=5 * GIB if model.name == "SegNeXtT" else 2**20)(model, size)

    found = make_plan(facts(train_images=5000), DESK, compute_cost=cost_of)
    assert found.model.name == "LiteHRNetS" and "SegNeXtT" in found.choices["model"].reason


BATCH_CASES = {
    "usual": (100, DESK, 50, "8", "up to about"),
    "many images": (5000, DESK, 50, "16", "of 24.0 GiB of memory"),
    "few images": (24, DESK, 50, "4", "24 images"),
    "hardly any image": (3, DESK, 50, "2", "3 images"),
    "little memory": (100, Machine(2, 4 * GIB), 200, "4", "do not fit"),
    "the accelerator's memory counts": (100, Machine(8, 256 * GIB, 2 * GIB), 100, "4", "GPU"),
}


@pytest.mark.parametrize("case", BATCH_CASES)
def test_the_batch_fits_the_memory_and_the_number(case: str) -> None:
    images, machine, mebibytes, batch, reason = BATCH_CASES[case]
    found = make_plan(facts(train_images=images), machine, compute_cost=fixed(nodes=mebibytes * 2**20)).choices["batch"]
    assert found.value == batch and reason in found.reason


def test_an_input_is_shrunk_for_memory_and_time_within_limits() -> None:
    large = Counter({(1024, 2048): 100})
    found = make_plan(facts(sizes=large), Machine(2, 8 * GIB), compute_cost=fixed())
    height, width = found.size
    assert width == 2 * height < 2048 and "4 images fit into 4.0 GiB" in found.choices["input_size"].reason
    slow = make_plan(
        facts(sizes=large, train_images=900), Machine(2, 999 * GIB), compute_cost=fixed(nodes=2**20, macs=50e9)
    )
    assert slow.size == (512, 1024) and "24 h" in slow.choices["input_size"].reason
    assert make_plan(facts(sizes=large), SERVER, compute_cost=fixed(nodes=2**20, macs=50e9)).size == (1024, 2048)


def test_thin_things_are_not_shrunk_for_time_and_hardly_for_memory() -> None:
    given = facts(kind("bg", 0.9), kind("line", 0.1, width=3.0), sizes=Counter({(1024, 2048): 100}))
    assert make_plan(given, Machine(2, 999 * GIB), compute_cost=fixed(macs=50e9)).size == (1024, 2048)
    found = make_plan(given, Machine(2, 8 * GIB), compute_cost=fixed())
    assert found.choices["batch"].value == "2" and "tiles" in found.choices["input_size"].reason


@pytest.mark.parametrize(("images", "epochs"), [(8, 300), (79, 300), (367, 66), (900, 30)])
def test_small_sets_get_steps_enough(images: int, epochs: int) -> None:
    found = make_plan(facts(train_images=images), DESK, compute_cost=fixed())
    assert found.choices["epochs"].value == str(epochs) and "on 2 cores" in found.choices["epochs"].reason
    assert " on " not in make_plan(facts(train_images=images), SERVER, compute_cost=fixed()).choices["epochs"].reason


@pytest.mark.parametrize(("cores", "gpu", "workers"), [(1, 0, 1), (2, 0, 1), (4, 0, 3), (64, 0, 4), (64, GIB, 8)])
def test_workers_leave_a_core_to_the_network(cores: int, gpu: int, workers: int) -> None:
    assert make_plan(facts(), Machine(cores, 24 * GIB, gpu), compute_cost=fixed()).choices["workers"].value == str(
        workers
    )


def test_a_smaller_size_keeps_the_shape() -> None:
    assert shrink_size((384, 480), 1.0) == (384, 480) and shrink_size((512, 1024), 0.25) == (256, 512)
    assert shrink_size((512, 512), 0.24) == (224, 224) and shrink_size((64, 64), 0.01) == (64, 64)


def test_the_cost_of_a_model_is_that_of_its_graph() -> None:
    small, large = (compute_model_cost("lite_hrnet", "LiteHRNetS", 4, size) for size in ((256, 256), (512, 512)))
    assert small.logit_bytes == 4 * 4 * 256**2 and small.parameters == large.parameters > 800_000
    # measured: 657 MiB beside the process for a batch of 8, and 0.52 s on one core
    assert (
        600 < (small.estimate_memory(8) - small.estimate_memory(0)) / 2**20 < 1200
        and 0.35 < small.estimate_seconds(8, 1) < 0.7
    )
    assert small.scale_pixels(4).activation_bytes == pytest.approx(
        large.activation_bytes, rel=0.01
    ) and small.estimate_seconds(8, 2) < small.estimate_seconds(8, 1)
    assert small.node_count == large.node_count > 1000
    tiny = small.scale_pixels(1 / 16)
    assert (
        tiny.estimate_seconds(8, 1) > small.estimate_seconds(8, 1) / 8
    )  # each node takes its time, however small the input is


def test_every_model_is_offered_and_has_published_weights() -> None:
    from segdsl.words.published import PUBLIC_WEIGHTS

    assert tuple(MODELS) == OFFERED
    assert {m.weights.removeprefix("otx:") for m in MODELS.values()} <= {p.removeprefix("otx:") for p in PUBLIC_WEIGHTS}


NAMES = {
    ("train", "val"): ("train", "val"),
    ("test", "train", "val"): ("train", "val"),
    ("training", "validation", "testing"): ("training", "validation"),
    ("Test", "TRAIN"): ("TRAIN", "Test"),
    ("trainval", "test"): ("trainval", "test"),
    ("train_2024", "my-valid"): ("train_2024", "my-valid"),
    ("train", "holdout"): ("train", "holdout"),
    ("others", "val"): ("others", "val"),
}


@pytest.mark.parametrize("names", NAMES)
def test_subsets_are_known_by_their_names(names: tuple[str, ...]) -> None:
    assert pick_subsets(names, FOLDERS.split_help, Path("set")) == NAMES[names]


@pytest.mark.parametrize(("names", "slug", "help"), [
    (("a", "b"), "subset-unclear", "--subset a --subset b"),
    (("train", "b", "c"), "subset-unclear", "--subset train --subset b"),
    (("train",), "subset-single", "instances_val.json"),
    (("strain", "vale", "x"), "subset-unclear", "--subset strain"),
])  # fmt: skip
def test_unclear_subset_names_are_reported(names: tuple[str, ...], slug: str, help: str) -> None:
    with pytest.raises(SegError) as caught:
        pick_subsets(names, COCO.split_help, Path("set"))
    (found,) = caught.value.diagnostics
    assert found.slug == slug and help in found.help and found.path == "set"


def test_a_sample_measures_width_offset_and_colour() -> None:
    mask = np.zeros((40, 100), np.uint8)
    mask[30:34] = 1  # a strip of 4 pixels, 0.3 of the height below the middle
    mask[0] = 255
    grey = np.full((40, 100, 3), 90, np.uint8)
    colored = grey + np.array([0, 0, 9], np.uint8)
    sample = PairMeasurements()
    for image in (grey, colored):
        sample.add_pair(image, mask, 255)
    assert (sample.images, sample.color_images) == (2, 1)
    assert sample.compute_width(1) == 4 and sample.compute_width(7) == math.inf
    assert sample.compute_offset(1) == (pytest.approx(0.3), 0.0, 2) and sample.compute_offset(7).images == 0
    assert measure_outline(mask, 255)[[0, 1, 255]].tolist() == [200, 200, 0]


def test_a_position_needs_several_images() -> None:
    assert find_offset_class(facts(kind("a", 0.5, offset=Offset(0.4, 0.01, 4)))) is None
    assert list(pick_evenly(3, 9)) == [0, 1, 2] and list(pick_evenly(10, 4)) == [0, 2, 5, 7]
    assert split_words(["trafficLight-left_2"]) == {"traffic", "light", "left"}


def test_numbers_are_formatted_for_people() -> None:
    assert [format_percent(s) for s in (0.977, 0.0161, 0.0, 0.00001)] == [
        "97.7 %",
        "1.61 %",
        "0.0 %",
        "less than 0.01 %",
    ]
    assert [format_duration(s) for s in (0.2, 45, 150, 9000, 90_000)] == ["1 s", "45 s", "2 min", "2.5 h", "25 h"]
    assert format_count(1, "image") == "1 image" and format_count(1200, "image") == "1,200 images"


def test_a_container_may_have_less_memory_than_its_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(
        "segdsl.data.decode.decoded_cache.CGROUP_FILES", ((tmp_path / "none", limit), (limit, tmp_path / "none"))
    )
    whole = get_total_memory()
    for text, expected in (("max\n", whole), (f"{2**28}\n", 2**28), (f"{2**62}\n", whole)):
        limit.write_text(text)
        assert get_total_memory() == expected


@pytest.mark.parametrize(("script", "expected"), [
    ("echo 81559; echo 40000", 81559 << 20), ("echo 81559; exit 9", 0), ("echo '[N/A]'", 0), ("", 0), (None, 0)
])  # fmt: skip
def test_the_accelerator_is_asked_for_its_memory(
    script: str | None, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if script is not None:
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin" if script is not None else str(tmp_path))
    assert read_accelerator_memory() == expected
