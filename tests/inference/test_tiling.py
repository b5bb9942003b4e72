"""Tiled inference: windows, mirror images and scales cover every pixel and agree with the whole image."""

from __future__ import annotations

import tracemalloc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from segdsl.inference.evaluate import evaluate_model
from segdsl.inference.models.model import Model
from segdsl.inference.models.opener import open_model
from segdsl.inference.preprocess import ClassMaps, Image, stretch_image
from segdsl.inference.tiling import BandResampler, classify_image, iterate_bands, plan_windows, select_best_class
from segdsl.ir.program import Eval, Program
from segdsl.ir.values import Size
from segdsl.lang.program import load

COUNTS = st.integers(1, 40)
SHARES = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.77, 0.9])


def looking(image: Image, reach: int) -> ClassMaps:
    """Return four probabilities of each pixel from its neighbors up to ``reach`` away; outside the image is 0."""
    weights = np.random.default_rng(reach).random((2 * reach + 1, 2 * reach + 1))
    seen = cv2.filter2D(image.astype(np.float64), -1, weights / weights.sum(), borderType=cv2.BORDER_CONSTANT)
    powers = np.exp(-((seen.reshape(image.shape)[..., 0] - np.array([30, 90, 150, 210])[:, None, None]) ** 2) / 2000)
    return (powers / powers.sum(0)).astype(np.float32)


def picture(height: int, width: int, seed: int = 0) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def whole(parts: BandResampler | object, height: int) -> ClassMaps:
    """Concatenate all bands of a source."""
    found = np.concatenate([band.copy() for band in parts], axis=1)  # type: ignore[attr-defined]
    assert found.shape[1] == height
    return found


@given(length=st.integers(1, 300), window=COUNTS, overlap=SHARES)
@example(length=1, window=1, overlap=0.9)
def test_windows_cover_everything_and_weigh_one(length: int, window: int, overlap: float) -> None:
    length = max(length, window)
    starts, weights = plan_windows(length, window, overlap)
    total = np.zeros(length)
    for start, weight in zip(starts, weights, strict=True):
        assert weight.shape == (window,) and (weight >= 0).all()
        total[start : start + window] += weight
    assert total == pytest.approx(np.ones(length), abs=1e-6)
    assert starts[0] == 0 and starts[-1] + window == length
    shared = min(int(np.ceil(window * overlap)), window - 1)
    steps = np.diff(starts)
    assert all(1 <= step <= window - shared for step in steps)
    # none more than it takes
    assert len(starts) == 1 or (len(starts) - 2) * (window - shared) + window < length


def test_weights_fall_off_smoothly_and_only_between_windows() -> None:
    starts, (first, second, *_, last) = plan_windows(160, 64, 0.5)
    assert starts == [0, 32, 64, 96]
    assert (first[:32] == 1).all() and (last[-32:] == 1).all()
    assert (second[:8] == 0).all() and (second[-8:] == 0).all() and (first[-8:] == 0).all()
    rise = second[8:24]
    assert (np.diff(rise) > 0).all() and rise[0] < 0.01 and rise[-1] > 0.99
    assert np.abs(np.diff(second)).max() < 0.11


@settings(max_examples=60, deadline=None)
@given(size=st.tuples(st.integers(9, 90), st.integers(9, 90)), window=st.tuples(COUNTS, COUNTS), overlap=SHARES)
def test_windows_equal_the_whole_image_within_their_overlap(
    size: tuple[int, int], window: tuple[int, int], overlap: float
) -> None:
    height, width = (min(w, s) for w, s in zip(window, size, strict=True))
    reach = min(min(int(np.ceil(side * overlap)), side - 1) // 4 for side in (height, width))
    image = picture(*size)
    found = whole(iterate_bands(lambda part: looking(part, reach), image, Size(height, width), overlap), size[0])
    assert found == pytest.approx(looking(image, reach), abs=2e-6)


def test_windows_differ_where_a_network_sees_further() -> None:
    image = picture(64, 64)
    found = whole(iterate_bands(lambda part: looking(part, 6), image, Size(32, 32), 0.25), 64)
    assert np.abs(found - looking(image, 6)).max() > 1e-3


@settings(max_examples=60, deadline=None)
@given(size=st.tuples(COUNTS, COUNTS), window=st.tuples(COUNTS, COUNTS), overlap=SHARES)
def test_images_of_any_size_are_covered(size: tuple[int, int], window: tuple[int, int], overlap: float) -> None:
    seen: set[tuple[int, ...]] = set()

    def scores(part: Image) -> ClassMaps:
        seen.add(part.shape)
        return looking(part, 0)

    image = picture(*size)
    found = whole(iterate_bands(scores, image, Size(*window), overlap), size[0])
    assert found == pytest.approx(looking(image, 0), abs=2e-6)
    assert seen == {(*window, 3)}


def test_images_smaller_than_a_window_are_mirrored() -> None:
    image, seen = picture(3, 5), []
    for _ in iterate_bands(lambda part: seen.append(part) or looking(part, 0), image, Size(5, 7), 0.25):
        pass
    (shown,) = seen
    assert (shown[:3, :5] == image).all()
    assert (shown[3:] == shown[2:0:-1]).all() and (shown[:, 5:] == shown[:, 4:2:-1]).all()


@settings(max_examples=60, deadline=None)
@given(
    given_size=st.tuples(COUNTS, COUNTS),
    wanted=st.tuples(COUNTS, COUNTS),
    cut=st.integers(1, 17),
    step=st.integers(1, 17),
)
def test_bands_are_resized_as_the_whole_would_be(
    given_size: tuple[int, int], wanted: tuple[int, int], cut: int, step: int
) -> None:
    maps = np.random.default_rng(0).random((3, *given_size), np.float32)
    source = BandResampler(
        (maps[:, k : k + cut] for k in range(0, given_size[0], cut)), Size(*given_size), Size(*wanted)
    )
    rows = [source.take_rows(k, min(k + step, wanted[0])) for k in range(0, wanted[0], step)]
    expected = np.stack([cv2.resize(m, wanted[::-1], interpolation=cv2.INTER_LINEAR) for m in maps])
    assert np.concatenate(rows, axis=1) == pytest.approx(expected, abs=1e-5)


def test_the_best_class_is_the_first_of_the_highest() -> None:
    maps = np.random.default_rng(0).integers(0, 4, (5, 30, 20)).astype(np.float32)
    assert (select_best_class(maps) == maps.argmax(0)).all()


def test_memory_is_that_of_a_row_of_windows() -> None:
    height, width, classes = 4000, 200, 16
    image = np.zeros((height, width, 3), np.uint8)
    part = np.zeros((classes, 32, 32), np.float32)
    tracemalloc.start()
    for _ in iterate_bands(lambda _: part, image, Size(32, 32), 0.25):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    row = classes * 32 * width * 4
    assert row < peak < 3 * row < classes * height * width * 4 / 30


class Local(Model):
    """A model that uses each pixel and its right neighbors; it records the sizes of its inputs."""

    base_folder = property(lambda self: Path())

    def __init__(self, program: Program, **said: object) -> None:
        changed = program.eval.model_copy(update=said)
        super().__init__(Path("local"), program.model_copy(update={"eval": Eval.model_validate(changed.model_dump())}))

    def predict_logits(self, image: Image) -> ClassMaps:
        raise NotImplementedError

    def predict_probabilities(self, image: Image) -> ClassMaps:
        size = (self.input_size.width, self.input_size.height)
        small = cv2.resize(np.ascontiguousarray(image), size)
        return looking(np.roll(small, -1, axis=1) // 2 + small // 2, 0)


@pytest.fixture(scope="module")
def program(run: Path) -> Program:
    return load(run / "program.seg")


def test_the_whole_image_is_the_default(program: Program) -> None:
    image = picture(70, 99)
    assert (classify_image(Local(program), image) == Local(program).predict_input_mask(image)).all()
    assert classify_image(Local(program), image).shape == (45, 64)


def test_mirror_images_are_averaged(program: Program) -> None:
    image, model = picture(70, 99), Local(program)
    expected = model.predict_probabilities(image) + model.predict_probabilities(image[:, ::-1])[:, :, ::-1]
    found = classify_image(Local(program, flip=True), image)
    assert (found == expected.argmax(0)).all()
    assert (found != model.predict_input_mask(image)).any()


def test_scales_are_averaged_at_the_size_of_the_input(program: Program) -> None:
    image, model = picture(45, 64), Local(program)
    large = stretch_image(image, Size(90, 128))
    parts = [large[y : y + 45, x : x + 64] for y in (0, 45) for x in (0, 64)]
    top, bottom = (np.concatenate([model.predict_probabilities(p) for p in parts[k : k + 2]], 2) for k in (0, 2))
    doubled = np.concatenate([top, bottom], 1).reshape(4, 45, 2, 64, 2).mean((2, 4))
    found = classify_image(Local(program, scales=(1.0, 2.0), overlap=0.0), image)
    assert (found == (model.predict_probabilities(image) + doubled).argmax(0)).mean() > 0.999
    assert (found != model.predict_input_mask(image)).any()


def test_small_scales_are_shown_in_windows_that_are_filled_up(program: Program) -> None:
    assert classify_image(Local(program, scales=(0.5,)), picture(45, 64)).shape == (45, 64)
    assert classify_image(Local(program, scales=(0.1, 0.3), tile=Size(7, 9)), picture(1, 2)).shape == (1, 2)


@pytest.mark.parametrize("tile", [Size(45, 64), Size(90, 128)])
def test_windows_have_the_size_of_the_image(program: Program, tile: Size) -> None:
    image = np.repeat(picture(200, 1), 150, axis=1)
    found = classify_image(Local(program, tile=tile), image)
    assert found.shape == (200, 150)
    # columns do not differ, so that windows, stretched or not, must say the same in all of them
    assert (found == found[:, :1]).all()


CHANGES: list[dict[str, object]] = [
    {"tile": Size(30, 32)}, {"tile": Size(30, 32), "overlap": 0.0}, {"flip": True}, {"scales": (1.0, 1.5)},
    {"tile": Size(30, 32), "scales": (1.0, 0.6), "flip": True},
]  # fmt: skip


def scored(path: Path, change: Mapping[str, object]) -> dict[str, Any]:
    model = open_model(path)
    said = model.program.eval.model_copy(update=change)
    model.program = model.program.model_copy(update={"eval": said})
    return evaluate_model(model)


def test_every_key_changes_the_scores_and_runs_score_as_files_do(run: Path, fp32: Path) -> None:
    plain, seen = scored(run, {}), set()
    for change in CHANGES:
        ours, theirs = (scored(path, change) for path in (run, fp32))
        assert ours["dice"] == pytest.approx(theirs["dice"], abs=2e-3)
        assert ours["dice"] != plain["dice"]
        assert sum(map(sum, ours["confusion"])) == sum(map(sum, plain["confusion"]))
        seen.add(ours["dice"])
    assert len(seen) == len(CHANGES)
