"""Augmentations: steps of `data.train.augment`. ``segdsl/data/augment/pipeline.py`` has their realisations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le
from pydantic import AfterValidator

from segdsl.ir.program import Augmentation, Probability
from segdsl.ir.values import Angle, AngleRange, Quantity, Range, Size


def _within(low: float, high: float) -> Callable[[Range], Range]:
    """A validator: both ends lie in ``low..high`` and do not run backwards."""

    def check(value: Range) -> Range:
        if value.low > value.high:
            raise ValueError("must not run backwards")
        if not (low <= value.low and value.high <= high):
            raise ValueError(f"must stay within {Range(low, high, value.unit)}")
        return value

    return check


def _half_turn(value: Quantity) -> Quantity:
    if not 0 <= value.value <= 180:
        raise ValueError("must lie within 0 deg..180 deg")
    return value


Share = Annotated[Range, AfterValidator(_within(0.001, 1.0))]
Ratio = Annotated[Range, AfterValidator(_within(0.1, 10.0))]
Factor = Annotated[Range, AfterValidator(_within(0.0, 10.0))]
Zoom = Annotated[Range, AfterValidator(_within(0.1, 10.0))]
Turn = Annotated[AngleRange, AfterValidator(_within(-180.0, 180.0))]
Hue = Annotated[Angle, AfterValidator(_half_turn)]
Levels = Annotated[float, Ge(0), Le(255)]
LevelRange = Annotated[Range, AfterValidator(_within(0.0, 255.0))]
Shift = Annotated[Range, AfterValidator(_within(-1.0, 1.0))]
Lean = Annotated[AngleRange, AfterValidator(_within(-60.0, 60.0))]
Sigma = Annotated[Range, AfterValidator(_within(0.0, 20.0))]
Place = Annotated[Range, AfterValidator(_within(0.05, 0.95))]
Count = Annotated[int, Ge(1), Le(8)]


class RandomResizedCrop(Augmentation):
    """Cuts out a window of random area and shape and stretches it to `data.input_size` (Szegedy et al., 2015).

    Ten windows are tried; if none fits into the image, the largest central one whose shape lies in `ratio` is taken.
    """

    scale: Share = Range(0.2, 1.0)
    """Area of the window, as a share of the image's."""
    ratio: Ratio = Range(0.75, 1.34)
    """Width of the window over its height; drawn evenly in the logarithm."""


class RandomCrop(Augmentation):
    """Cuts out a window of fixed size at a random place, without scaling.

    An image that is smaller is padded on the right and below: the mean colour in the image, void in the mask.
    """

    size: Size | None = None
    """Height x width of the window; left out, `data.input_size`."""
    most: Annotated[float, Gt(0), Le(1)] = 1.0
    """Largest share of one class among the pixels that are not void; ten windows are tried. 0.75 keeps out windows of
    nothing but road."""


class Resize(Augmentation):
    """Brings the image to a size, times a random factor.

    Use it before `RandomCrop`, for scales that a fixed window alone does not give.
    """

    size: Size | None = None
    """Height x width before the factor; left out, `data.input_size`."""
    scale: Zoom = Range(1.0, 1.0)
    """The factor for height and width together."""
    fit: Literal["stretch", "letterbox"] = "stretch"
    """Without regard to the image's shape; or as large as it fits in, with the mean colour and void around it."""


class PhotometricDistortion(Augmentation):
    """Changes brightness, contrast, saturation and hue, in this order, each on its own with probability `p`.

    Values stay within 0 and 255. Images that are not RGB have no saturation and hue: there these two change nothing.
    After SSD's training pipeline (Liu et al., 2016), without its shuffled channels.
    """

    brightness: Levels = 32.0
    """Largest number of grey levels (of 255) that are added or taken off."""
    contrast: Factor = Range(0.5, 1.5)
    """Factor on all channels."""
    saturation: Factor = Range(0.5, 1.5)
    """Factor on the saturation of HSV."""
    hue: Hue = Quantity(18, "deg")
    """Largest turn of the hue, either way; steps of 2 deg."""
    p: Probability = 0.5
    """Probability of each of the four."""


class HorizontalFlip(Augmentation):
    """Mirrors left and right. Not where sides have a meaning: text, left and right organs, lanes of traffic."""

    p: Probability = 0.5
    """Probability of the flip."""


class VerticalFlip(Augmentation):
    """Mirrors top and bottom. For images without an up and down: microscopy, surfaces, images from above."""

    p: Probability = 0.5
    """Probability of the flip."""


class Rotate(Augmentation):
    """Turns around the centre, at the same size. What comes in is the mean colour in the image, void in the mask."""

    range: Turn = Range(-10.0, 10.0, "deg")
    """Angles to draw from; positive turns against the clock."""
    p: Probability = 0.5
    """Probability of a turn."""


class Affine(Augmentation):
    """Turns, scales, leans and moves the image in one step, at the same size.

    What comes in is the mean colour in the image, void in the mask. `Rotate` and a crop are enough for most sets.
    """

    rotate: Turn = Range(-10.0, 10.0, "deg")
    """Angles to draw from; positive turns against the clock."""
    scale: Zoom = Range(0.9, 1.1)
    """Factor for height and width together."""
    translate: Shift = Range(-0.1, 0.1)
    """Way to the right, and way down, as a share of width and height."""
    shear: Lean = Range(-5.0, 5.0, "deg")
    """How far vertical lines lean."""
    p: Probability = 0.5
    """Probability of the step."""


class AugMix(Augmentation):
    """Mixes differently distorted copies of the image with one another and with the image itself.

    Each copy goes through a chain of changes: brightness, contrast, saturation, sharpness, posterising, solarising,
    stretching and equalising of the histogram. None of them moves a pixel, so that the mask stays as it is. After
    Hendrycks et al. (2020). It makes a model robust to other cameras and weather, and costs some milliseconds an
    image; not where colour itself tells the classes apart.
    """

    chains: Count = 3
    """Distorted copies."""
    depth: Count = 3
    """Most changes in a chain; their number is drawn from 1 on."""
    severity: Annotated[float, Gt(0), Le(1)] = 0.3
    """Strength of the strongest change, of 1."""
    alpha: Annotated[float, Gt(0), Le(100)] = 1.0
    """Of the Dirichlet and Beta distributions that the weights come from; the larger, the more even is the mixture."""
    p: Probability = 0.5
    """Probability of the step."""


class GaussianBlur(Augmentation):
    """Blurs the image. Not where classes are told apart by fine texture, or are a few pixels wide."""

    sigma: Sigma = Range(0.1, 2.0)
    """Deviation of the bell, in pixels of the image as it is at this step."""
    p: Probability = 0.5
    """Probability of the blur."""


class GaussianNoise(Augmentation):
    """Adds noise to every value on its own, as sensors do in the dark. Use it where such images are to be met."""

    std: LevelRange = Range(0.0, 25.0)
    """Deviation of the noise, in levels of 255."""
    p: Probability = 0.5
    """Probability of the noise."""


class Grayscale(Augmentation):
    """Takes the colour out, and leaves three equal channels; images that are not RGB stay as they are.

    For data that is met in grey as well. Not where colour tells the classes apart.
    """

    p: Probability = 0.1
    """Probability of the step."""


class CutMix(Augmentation):
    """Puts a rectangle of another training image over the same place (Yun et al., 2019; French et al., 2020).

    The other image goes through the steps before this one. Use it after the crop, for few images of scenes without a
    fixed layout.
    """

    area: Share = Range(0.1, 0.5)
    """Area of the rectangle, as a share of the image's."""
    ratio: Ratio = Range(0.5, 2.0)
    """Width over height; drawn evenly in the logarithm."""
    p: Probability = 0.5
    """Probability of the step."""


class Mosaic(Augmentation):
    """Puts windows of four images around a point (Bochkovskiy et al., 2020).

    The other three go through the steps before this one. It shows many objects at once; not for scenes with a fixed
    layout, whose context it tears apart. Reading four images takes four times as long.
    """

    center: Place = Range(0.3, 0.7)
    """Where the four meet, as a share of height and of width."""
    p: Probability = 0.5
    """Probability of the step."""


class ClassMix(Augmentation):
    """Copies what is of some classes in another image over this one (Olsson et al., 2021).

    The other image goes through the steps before this one. Rare classes that are named are shown more often than the
    data does.
    """

    classes: tuple[str, ...] | None = None
    """Names of the classes that are copied; left out, half of those in the other image, drawn anew each time."""
    p: Probability = 0.5
    """Probability of the step."""
