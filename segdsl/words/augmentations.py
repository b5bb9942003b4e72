"""Augmentations: steps of `data.train.augment`. Each word has its realisation in ``segdsl/data/augment.py``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from annotated_types import Ge, Le
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


class Resize(Augmentation):
    """Stretches the image to a size, times a random factor."""

    size: Size | None = None
    """Height x width before the factor; left out, `data.input_size`."""
    scale: Zoom = Range(1.0, 1.0)
    """The factor for height and width together."""


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
    """Mirrors left and right."""

    p: Probability = 0.5
    """Probability of the flip."""


class VerticalFlip(Augmentation):
    """Mirrors top and bottom."""

    p: Probability = 0.5
    """Probability of the flip."""


class Rotate(Augmentation):
    """Turns around the centre, at the same size. What comes in is the mean colour in the image, void in the mask."""

    range: Turn = Range(-10.0, 10.0, "deg")
    """Angles to draw from; positive turns against the clock."""
    p: Probability = 0.5
    """Probability of a turn."""
