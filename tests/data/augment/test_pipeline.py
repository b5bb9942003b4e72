"""Properties of the augmentations: sizes, label space, ranges, and random numbers that come from a counter."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from segdsl.data.augment.pipeline import STEPS, apply_augmentations
from segdsl.data.augment.sample import RGB_FILL, AugmentContext, Sample, counter_rng, fit_sample, resize_sample
from segdsl.ir.program import Augmentation
from segdsl.ir.values import Quantity, Range, Size
from segdsl.ir.word import list_words
from segdsl.words import augmentations as words

SETTING = AugmentContext((32, 48), 255)
ALL_WORDS: tuple[Augmentation, ...] = (
    words.RandomResizedCrop(), words.RandomCrop(), words.Resize(scale=Range(0.5, 2.0)),
    words.PhotometricDistortion(p=1.0), words.HorizontalFlip(p=1.0), words.VerticalFlip(p=1.0), words.Rotate(p=1.0),
    words.Affine(p=1.0), words.AugMix(p=1.0), words.GaussianBlur(p=1.0), words.GaussianNoise(p=1.0),
    words.Grayscale(p=1.0), words.CutMix(p=1.0), words.Mosaic(p=1.0), words.ClassMix(p=1.0),
    words.Resize(fit="letterbox"), words.RandomCrop(most=0.5),
)  # fmt: skip
CHANCED = [w for w in ALL_WORDS if "p" in type(w).model_fields]


def sample(height: int = 40, width: int = 60, seed: int = 0) -> Sample:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Sample(image, rng.choice(np.array([0, 1, 2, 7], dtype=np.uint8), (height, width)))


def after(word: Augmentation, given: Sample, index: int = 0, setting: AugmentContext = SETTING) -> Sample:
    """The sample after this one step, before anything is brought to the input size."""
    return STEPS[type(word)](word, given, counter_rng(0, 0, index), setting)


def test_every_word_has_a_realisation_and_the_reverse() -> None:
    assert set(STEPS) == set(list_words(Augmentation).values()) == {type(w) for w in ALL_WORDS}


@pytest.mark.parametrize("word", ALL_WORDS, ids=lambda w: type(w).__name__)
@settings(max_examples=25, deadline=None)
@given(height=st.integers(1, 70), width=st.integers(1, 70), index=st.integers(0, 1000))
def test_any_image_comes_out_at_the_input_size_with_known_labels(
    word: Augmentation, height: int, width: int, index: int
) -> None:
    given = sample(height, width)
    other = sample(width, height, seed=1)
    image, mask = apply_augmentations([word], given, counter_rng(0, 0, index), SETTING, lambda rng: other)
    assert image.shape == (32, 48, 3) and mask.shape == (32, 48)
    assert image.dtype == mask.dtype == np.uint8
    assert set(np.unique(mask)) <= {*np.unique(given.mask), *np.unique(other.mask), SETTING.ignore}


@pytest.mark.parametrize("word", ALL_WORDS, ids=lambda w: type(w).__name__)
@settings(max_examples=10, deadline=None)
@given(index=st.integers(0, 1000))
def test_void_stays_void(word: Augmentation, index: int) -> None:
    given = Sample(sample().image, np.full((40, 60), SETTING.ignore, np.uint8))
    assert (
        apply_augmentations([word], given, counter_rng(0, 0, index), SETTING, lambda rng: given).mask == SETTING.ignore
    ).all()


@pytest.mark.parametrize("word", ALL_WORDS, ids=lambda w: type(w).__name__)
def test_the_arrays_given_are_not_changed(word: Augmentation) -> None:
    given = sample()
    image, mask = given.image.copy(), given.mask.copy()
    apply_augmentations([word], given, counter_rng(0, 0, 0), SETTING)
    assert (given.image == image).all() and (given.mask == mask).all()


@pytest.mark.parametrize("word", CHANCED, ids=lambda w: type(w).__name__)
def test_probability_zero_changes_nothing(word: Augmentation) -> None:
    given, word = sample(32, 48), type(word).model_validate({"p": 0})
    for index in range(20):
        image, mask = after(word, given, index)
        assert (image == given.image).all() and (mask == given.mask).all()


@pytest.mark.parametrize(
    ("word", "axis"), [(words.HorizontalFlip(p=1.0), 1), (words.VerticalFlip(p=1.0), 0)], ids=["horizontal", "vertical"]
)
def test_a_flip_mirrors_image_and_mask_alike(word: Augmentation, axis: int) -> None:
    given = sample()
    image, mask = after(word, given)
    assert (image == np.flip(given.image, axis)).all() and (mask == np.flip(given.mask, axis)).all()


def test_a_flip_of_probability_a_half_happens_about_half_the_time() -> None:
    given = sample()
    flips = sum((after(words.HorizontalFlip(p=0.5), given, i).mask != given.mask).any() for i in range(400))
    assert 160 < flips < 240


def test_the_same_counter_gives_the_same_sample_and_any_other_does_not() -> None:
    given, steps = sample(), ALL_WORDS[:1] + ALL_WORDS[3:]

    def pixels(*counter: int) -> bytes:
        return apply_augmentations(steps, given, counter_rng(*counter), SETTING).image.tobytes()

    first = pixels(0, 3, 17)
    assert pixels(0, 3, 17) == first
    others = [pixels(*c) for c in ((1, 3, 17), (0, 4, 17), (0, 3, 18), (0, 3, 17, 1))]
    assert len({first, *others}) == 5


def test_a_crop_keeps_image_and_mask_together() -> None:
    ramp = np.arange(40 * 60, dtype=np.int64).reshape(40, 60)
    given = Sample(np.repeat((ramp % 251).astype(np.uint8)[..., None], 3, axis=2), (ramp % 251).astype(np.uint8))
    for index in range(20):
        image, mask = after(words.RandomCrop(size=Size(16, 20)), given, index)
        assert image.shape == (16, 20, 3) and (image[..., 0] == mask).all()


def windows(word: words.RandomResizedCrop, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Heights and widths of the windows that the crop chooses, read off an image that counts rows and columns."""
    image = np.zeros((height, width, 3), dtype=np.uint8)
    image[..., 0] = np.arange(height)[:, None]
    image[..., 1] = np.arange(width)[None]
    found = []
    for index in range(400):
        cut = after(word, Sample(image, image[..., 0]), index, AugmentContext((128, 128), 255)).image.astype(int)
        found.append([np.ptp(cut[..., 0]) + 1, np.ptp(cut[..., 1]) + 1])
    return np.array(found)[:, 0], np.array(found)[:, 1]


def test_a_resized_crop_reaches_its_ranges_and_does_not_pass_them() -> None:
    heights, widths = windows(words.RandomResizedCrop(scale=Range(0.2, 0.6), ratio=Range(0.5, 2.0)), 100, 100)
    area, ratio = heights * widths / 10_000, widths / heights
    assert 0.17 < area.min() < 0.25 and 0.55 < area.max() < 0.63
    assert 0.46 < ratio.min() < 0.6 and 1.7 < ratio.max() < 2.2
    assert 0.9 < np.exp(np.log(ratio).mean()) < 1.1


def test_a_crop_of_scale_one_and_the_image_s_ratio_is_the_whole_image() -> None:
    given = sample(32, 48)
    word = words.RandomResizedCrop(scale=Range(1.0, 1.0), ratio=Range(1.5, 1.5))
    assert (after(word, given).image == given.image).all()


def test_no_window_fits_a_strip_so_that_the_central_one_is_taken() -> None:
    heights, widths = windows(words.RandomResizedCrop(scale=Range(0.9, 1.0), ratio=Range(0.9, 1.1)), 10, 100)
    assert set(heights) == {10} and set(widths) == {11}


@pytest.mark.parametrize("index", range(10))
def test_brightness_and_contrast_follow_their_bounds(index: int) -> None:
    grey = Sample(np.full((8, 8, 3), 100, dtype=np.uint8), np.zeros((8, 8), dtype=np.uint8))
    only_light = words.PhotometricDistortion(
        brightness=20, contrast=Range(1, 1), saturation=Range(1, 1), hue=Quantity(0, "deg"), p=1
    )
    assert 80 <= after(only_light, grey, index).image[0, 0, 0] <= 120
    only_contrast = words.PhotometricDistortion(
        brightness=0, contrast=Range(0.5, 1.5), saturation=Range(1, 1), hue=Quantity(0, "deg"), p=1
    )
    assert 50 <= after(only_contrast, grey, index).image[0, 0, 0] <= 150


def test_photometric_values_are_clamped_and_reached() -> None:
    dark = Sample(np.full((8, 8, 3), 5, dtype=np.uint8), np.zeros((8, 8), dtype=np.uint8))
    word = words.PhotometricDistortion(
        brightness=255, contrast=Range(1, 1), saturation=Range(1, 1), hue=Quantity(0, "deg"), p=1
    )
    values = [int(after(word, dark, i).image[0, 0, 0]) for i in range(200)]
    assert min(values) == 0 and max(values) > 240


def test_hue_turns_colours_and_leaves_grey_alone() -> None:
    word = words.PhotometricDistortion(
        brightness=0, contrast=Range(1, 1), saturation=Range(1, 1), hue=Quantity(60, "deg"), p=1
    )
    red = np.zeros((4, 4, 3), dtype=np.uint8)
    red[..., 0] = 200
    grey = np.full((4, 4, 3), 90, dtype=np.uint8)
    mask = np.zeros((4, 4), dtype=np.uint8)
    turned = np.array([after(word, Sample(red, mask), i).image[0, 0] for i in range(200)])
    hues = cv2.cvtColor(turned[None], cv2.COLOR_RGB2HSV)[0, :, 0].astype(int)
    hues = np.where(hues > 90, hues - 180, hues) * 2
    assert -60 <= hues.min() < -45 and 45 < hues.max() <= 60
    assert all((after(word, Sample(grey, mask), i).image == 90).all() for i in range(20))


def test_rotation_turns_by_its_angle_and_fills_with_mean_and_void() -> None:
    given = Sample(np.full((41, 41, 3), 200, dtype=np.uint8), np.ones((41, 41), dtype=np.uint8))
    image, mask = after(words.Rotate(range=Range(45, 45, "deg"), p=1.0), given)
    assert tuple(image[0, 0]) == RGB_FILL and mask[0, 0] == SETTING.ignore
    assert mask[20, 20] == 1 and tuple(image[20, 20]) == (200, 200, 200)
    quarter = sample(41, 41)
    _, mask = after(words.Rotate(range=Range(90, 90, "deg"), p=1.0), quarter)
    assert (mask == np.rot90(quarter.mask)).all()


def test_a_crop_larger_than_the_image_pads_with_mean_and_void() -> None:
    given = sample(10, 12)
    image, mask = after(words.RandomCrop(), given)
    assert (mask[:10, :12] == given.mask).all() and (mask[10:] == 255).all() and (mask[:, 12:] == 255).all()
    assert (image[:10, :12] == given.image).all() and tuple(image[-1, -1]) == RGB_FILL


def test_without_a_crop_the_image_is_stretched_as_at_inference() -> None:
    given = sample()
    image, mask = apply_augmentations([], given, counter_rng(0, 0, 0), SETTING)
    assert (image == cv2.resize(given.image, (48, 32), interpolation=cv2.INTER_LINEAR)).all()
    assert (mask == fit_sample(given, (32, 48)).mask).all()


@pytest.mark.parametrize("size", [(8, 8), (20, 24), (64, 64), (90, 77)])
def test_image_and_mask_stay_on_one_another(size: tuple[int, int]) -> None:
    offsets = []
    for edge in range(24, 41):
        mask = np.zeros((64, 64), np.uint8)
        mask[:, edge:] = 1
        given = Sample(np.repeat(mask[:, :, None] * 255, 3, axis=2), mask)
        for found in (resize_sample(given, size), fit_sample(given, size)):
            lit = found.image[:, :, 0].mean(axis=0).sum() / 255
            offsets.append(found.mask.mean(axis=0).sum() - lit)
    assert abs(np.mean(offsets)) < 0.06, "in pixels of the result"


def test_shrinking_averages_and_growing_interpolates() -> None:
    stripes = np.zeros((64, 64, 3), dtype=np.uint8)
    stripes[:, ::2] = 200
    small = after(words.Resize(size=Size(16, 16)), Sample(stripes, stripes[..., 0])).image
    assert (small == 100).all()


@pytest.mark.parametrize(
    ("word", "arguments", "bounds"),
    [
        (words.RandomResizedCrop, {"scale": Range(0.2, 1.5)}, "0.001..1.0"),
        (words.RandomResizedCrop, {"ratio": Range(2.0, 0.5)}, "low to high"),
        (words.Rotate, {"range": Range(-200, 0, "deg")}, "-180.0 deg..180.0 deg"),
        (words.PhotometricDistortion, {"hue": Quantity(200, "deg")}, "0 deg..180 deg"),
    ],
)
def test_bounds_are_enforced(word: type, arguments: dict, bounds: str) -> None:
    with pytest.raises(ValidationError) as caught:
        word(**arguments)
    assert str(caught.value.errors()[0].get("ctx", {})["error"]).endswith(bounds)
