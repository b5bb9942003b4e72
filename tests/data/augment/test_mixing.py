"""The augmentations beyond the published recipes: their ranges are reached and not passed, their masks are right."""

from __future__ import annotations

import numpy as np
import pytest

from segdsl.data.augment.photometry import DISTORTIONS, apply_lookup
from segdsl.data.augment.pipeline import STEPS, apply_augmentations, apply_steps
from segdsl.data.augment.sample import RGB_FILL, AugmentContext, Sample, counter_rng
from segdsl.ir.program import Augmentation
from segdsl.ir.values import Range, Size
from segdsl.words import augmentations as words

VOID = 255
SCALED = [change for change in DISTORTIONS if change.__name__ not in ("_stretch_contrast", "_equalize_histogram")]
"""The distortions whose strength can be 0; the others depend on the image alone."""
SETTING = AugmentContext((40, 60), VOID, ("road", "car", "sky"))


def of(word: Augmentation, given: Sample, index: int = 0, setting: AugmentContext = SETTING) -> Sample:
    return STEPS[type(word)](word, given, counter_rng(0, 0, index), setting)


def flat(value: int, label: int, size: tuple[int, int] = (40, 60)) -> Sample:
    return Sample(np.full((*size, 3), value, np.uint8), np.full(size, label, np.uint8))


def noise(seed: int = 0, size: tuple[int, int] = (40, 60)) -> Sample:
    rng = np.random.default_rng(seed)
    return Sample(rng.integers(0, 256, (*size, 3), np.uint8), rng.integers(0, 3, size, np.uint8))


def test_a_letterbox_keeps_the_shape_and_pads_with_mean_and_void() -> None:
    wide = Sample(np.full((10, 40, 3), 200, np.uint8), np.ones((10, 40), np.uint8))
    image, mask = of(words.Resize(size=Size(40, 40), fit="letterbox"), wide)
    assert image.shape == (40, 40, 3)
    assert (mask[15:25] == 1).all() and (mask[:15] == VOID).all() and (mask[25:] == VOID).all()
    assert tuple(image[0, 0]) == RGB_FILL and (image[15:25] == 200).all()


def test_a_crop_looks_for_a_window_without_too_much_of_one_class() -> None:
    mask = np.zeros((100, 100), np.uint8)
    mask[:, 80:] = 1
    given = Sample(np.zeros((100, 100, 3), np.uint8), mask)

    def shares(word: words.RandomCrop) -> list[float]:
        return [(of(word, given, i).mask == 0).mean() for i in range(100)]

    plain, limited = shares(words.RandomCrop(size=Size(30, 30))), shares(words.RandomCrop(size=Size(30, 30), most=0.6))
    assert np.mean([s > 0.6 for s in plain]) > 0.6
    assert np.mean([s > 0.6 for s in limited]) < 0.3


def test_affine_reaches_its_ranges() -> None:
    still = {"rotate": Range(0, 0, "deg"), "scale": Range(1, 1), "translate": Range(0, 0), "shear": Range(0, 0, "deg")}
    dot = np.zeros((101, 101), np.uint8)
    dot[50, 50] = 1
    given = Sample(np.repeat(dot[:, :, None] * 200, 3, axis=2), dot)
    assert (of(words.Affine(**still, p=1), given).mask == dot).all()
    places = np.array(
        [np.argwhere(of(words.Affine(**{**still, "translate": Range(-0.2, 0.2)}, p=1), given, i).mask == 1)[0]
         for i in range(300)]
    )  # fmt: skip
    assert places.min() >= 29 and places.max() <= 71 and places.min() < 33 and places.max() > 67
    square = np.zeros((101, 101), np.uint8)
    square[40:61, 40:61] = 1
    block = Sample(np.zeros((101, 101, 3), np.uint8), square)
    zoomed = words.Affine(**{**still, "scale": Range(0.5, 2.0)}, p=1)
    areas = [(of(zoomed, block, i).mask == 1).sum() / 441 for i in range(300)]
    assert 0.2 <= min(areas) < 0.35 and 3.4 < max(areas) <= 4.3
    assert (of(words.Affine(**{**still, "rotate": Range(90, 90, "deg")}, p=1), noise(0, (41, 41))).mask
            == np.rot90(noise(0, (41, 41)).mask)).all()  # fmt: skip


@pytest.mark.parametrize(("word", "low", "high"), [(words.GaussianNoise(std=Range(20, 20), p=1), 19, 21)])
def test_noise_has_its_deviation_and_no_mean(word: words.GaussianNoise, low: float, high: float) -> None:
    image = of(word, flat(128, 0, (200, 200))).image.astype(float)
    assert low < image.std() < high and abs(image.mean() - 128) < 0.5
    assert image.min() < 128 - 45 and image.max() > 128 + 45
    stated = [of(words.GaussianNoise(std=Range(0, 10), p=1), flat(128, 0), i).image.std() for i in range(100)]
    assert 0 <= min(stated) < 1.5 and 8.5 < max(stated) < 10.8


def test_blur_takes_detail_out_and_keeps_the_mean() -> None:
    given = noise(0, (100, 100))
    soft = of(words.GaussianBlur(sigma=Range(2, 2), p=1), given).image
    assert soft.std() < 0.25 * given.image.std() and abs(soft.mean() - given.image.mean()) < 1
    assert (of(words.GaussianBlur(sigma=Range(0, 0), p=1), given).image == given.image).all()


def test_grayscale_leaves_three_equal_channels() -> None:
    image = of(words.Grayscale(p=1), noise()).image
    assert (image == image[:, :, :1]).all()


@pytest.mark.parametrize("change", SCALED, ids=lambda f: f.__name__)
def test_a_distortion_of_no_strength_hardly_changes_anything(change) -> None:
    image = noise().image
    assert np.abs(change(image, 0.0, 1).astype(int) - image).max() <= 1
    assert np.abs(change(image, 1.0, 1).astype(int) - image).max() > 10


def test_augmix_mixes_within_the_bounds_and_leaves_masks_alone() -> None:
    given = noise()
    far = [np.abs(of(words.AugMix(p=1, severity=s), given, i).image.astype(int) - given.image).mean()
           for s in (0.05, 1.0) for i in range(40)]  # fmt: skip
    assert np.mean(far[40:]) > 1.5 * np.mean(far[:40])
    assert len({of(words.AugMix(p=1), given, i).image.tobytes() for i in range(10)}) == 10
    assert (of(words.AugMix(p=1), given).mask == given.mask).all()


@pytest.mark.parametrize("channels", [1, 2, 5, 9])
@pytest.mark.parametrize(
    "word", [words.AugMix(p=1), words.GaussianBlur(p=1), words.GaussianNoise(p=1), words.Grayscale(p=1),
             words.CutMix(p=1), words.Mosaic(p=1), words.ClassMix(p=1), words.Affine(p=1)],
    ids=lambda w: type(w).__name__,
)  # fmt: skip
def test_they_take_any_number_of_channels(word: Augmentation, channels: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 60, channels), np.uint8)
    out = apply_augmentations([word], Sample(image, noise().mask), counter_rng(0, 0, 0), SETTING)
    assert out.image.shape == (40, 60, channels) and out.image.dtype == np.uint8


def test_a_table_is_looked_up_channel_by_channel() -> None:
    tables = np.stack([np.arange(256), 255 - np.arange(256)] * 3, axis=1)
    image = np.random.default_rng(0).integers(0, 256, (4, 5, 6), np.uint8)
    assert (apply_lookup(image, tables) == np.stack([tables[image[..., k], k] for k in range(6)], axis=2)).all()


def mixed(word: Augmentation, index: int) -> Sample:
    return apply_augmentations([word], flat(10, 0), counter_rng(0, 0, index), SETTING, lambda rng: flat(200, 1))


@pytest.mark.parametrize(
    "word", [words.CutMix(p=1), words.Mosaic(p=1), words.ClassMix(p=1)], ids=lambda w: type(w).__name__
)
def test_what_is_mixed_in_has_its_own_labels(word: Augmentation) -> None:
    for index in range(30):
        image, mask = mixed(word, index)
        assert ((image[..., 0] == 200) == (mask == 1)).all()
        assert (mask == 1).any()


def test_cutmix_reaches_its_areas() -> None:
    areas = [(mixed(words.CutMix(p=1, area=Range(0.1, 0.5)), i).mask == 1).mean() for i in range(300)]
    assert 0.09 <= min(areas) < 0.13 and 0.46 < max(areas) <= 0.51


def test_a_mosaic_has_one_quarter_of_the_image_itself() -> None:
    shares = [(mixed(words.Mosaic(p=1, center=Range(0.3, 0.7)), i).mask == 0).mean() for i in range(300)]
    assert 0.09 <= min(shares) < 0.14 and 0.42 < max(shares) <= 0.5


def test_classmix_copies_the_classes_that_are_named_or_half_of_them() -> None:
    other = noise(1)
    named = words.ClassMix(classes=("car",), p=1)
    image, mask = apply_augmentations([named], flat(10, 2), counter_rng(0, 0, 0), SETTING, lambda rng: other)
    assert ((mask == 1) == (other.mask == 1)).all() and (mask[other.mask != 1] == 2).all()
    assert (image[other.mask == 1] == other.image[other.mask == 1]).all()
    half = apply_augmentations(
        [words.ClassMix(p=1)], flat(10, VOID), counter_rng(0, 0, 0), SETTING, lambda rng: other
    ).mask
    assert len(set(np.unique(half)) - {VOID}) == 2


def test_a_partner_goes_through_the_steps_before() -> None:
    steps = [
        words.HorizontalFlip(p=1),
        words.CutMix(p=1, area=Range(1, 1), ratio=Range(1.5, 1.5)),
        words.VerticalFlip(p=0),
    ]
    other = noise(3)
    out = apply_steps(steps, noise(4), counter_rng(0, 0, 0), SETTING, lambda rng: other)
    assert (out.mask == np.fliplr(other.mask)).all()
