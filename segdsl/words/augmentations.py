"""Augmentation words: the steps of `data.train.augment`.

``segdsl/data/augment`` implements them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Le
from pydantic import AfterValidator

from segdsl.diagnostics.aliases import Aliases, register_aliases
from segdsl.ir.families import Augmentation
from segdsl.ir.fields import Probability
from segdsl.ir.values import Angle, AngleRange, Quantity, Range, Size


def _make_range_check(low: float, high: float) -> Callable[[Range], Range]:
    """Return a validator for ranges that ascend and stay within ``low..high``."""

    # The reference documents a bound with the text of its error, after `must stay` or `must lie` is removed.
    def check(value: Range) -> Range:
        if value.low > value.high:
            raise ValueError("must run from low to high")
        if not (low <= value.low and value.high <= high):
            raise ValueError(f"must stay within {Range(low, high, value.unit)}")
        return value

    return check


def _check_half_turn(value: Quantity) -> Quantity:
    if not 0 <= value.value <= 180:
        raise ValueError("must lie within 0 deg..180 deg")
    return value


# A smaller window would be enlarged beyond recognition.
Share = Annotated[Range, AfterValidator(_make_range_check(0.001, 1.0))]
Ratio = Annotated[Range, Aliases("aspect ratio_range aspect_ratio"), AfterValidator(_make_range_check(0.1, 10.0))]
Factor = Annotated[Range, AfterValidator(_make_range_check(0.0, 10.0))]
Zoom = Annotated[Range, Aliases("scale_limit scale_range"), AfterValidator(_make_range_check(0.1, 10.0))]
Turn = Annotated[AngleRange, AfterValidator(_make_range_check(-180.0, 180.0))]
Hue = Annotated[Angle, AfterValidator(_check_half_turn)]
# All pixels are uint8 at this stage, so distances between levels are bounded by 255.
Levels = Annotated[float, Ge(0), Le(255)]
LevelRange = Annotated[Range, AfterValidator(_make_range_check(0.0, 255.0))]
Shift = Annotated[Range, AfterValidator(_make_range_check(-1.0, 1.0))]
Lean = Annotated[AngleRange, AfterValidator(_make_range_check(-60.0, 60.0))]
Sigma = Annotated[Range, AfterValidator(_make_range_check(0.0, 20.0))]
# A point closer to an edge would leave windows of a few pixels.
Place = Annotated[Range, AfterValidator(_make_range_check(0.05, 0.95))]
register_aliases("letterbox", "keep_ratio")
QUARTER_TURN = 90.0
"""Angle in degrees beyond which a rotation turns an image upside down rather than on its side."""
Count = Annotated[int, Ge(1), Le(8)]
Chance = Annotated[Probability, Aliases("prob probability flip_prob")]


class RandomResizedCrop(Augmentation):
    """Cut out a window of random area and shape and resize it to `data.input_size` (Szegedy et al., 2015).

    Ten windows are tried. If none fits into the image, the largest centered window with a shape within `ratio` is used.
    """

    scale: Share = Range(0.2, 1.0)
    """Area of the window as a share of the image area."""
    ratio: Ratio = Range(0.75, 1.34)
    """Width of the window divided by its height, drawn uniformly on a logarithmic scale."""


class RandomCrop(Augmentation):
    """Cut out a window of fixed size at a random position, without resizing.

    Images smaller than the window are padded at the right and at the bottom: with the mean color in the image, with
    ignored pixels in the mask.
    """

    aliases = ("crop",)
    gallery_arguments: ClassVar[Mapping[str, Any]] = {"size": Size(112, 112)}

    size: Size | None = None
    """Height x width of the window; `data.input_size` by default."""
    most: Annotated[float, Gt(0), Le(1), Aliases("cat_max_ratio")] = 1.0
    """Largest share that one class may have of the window's pixels, ignored pixels aside. Up to ten windows are tried.
    For example, 0.75 avoids windows that show nothing but road."""

    def get_crop_size(self, input_size: Size) -> Size | None:
        return self.size or input_size


class Resize(Augmentation):
    """Resize the image to a given size times a random factor.

    Put it before `RandomCrop` to train on objects at several scales.
    """

    aliases = ("random_resize random_scale rescale letter_box letterbox",)
    gallery_arguments: ClassVar[Mapping[str, Any]] = {
        "size": Size(128, 192),
        "scale": Range(0.5, 1.0),
        "fit": "letterbox",
    }

    size: Size | None = None
    """Height x width before the factor is applied; `data.input_size` by default."""
    scale: Zoom = Range(1.0, 1.0)
    """Factor for height and width together."""
    fit: Literal["stretch", "letterbox"] = "stretch"
    """`stretch` ignores the aspect ratio of the image. `letterbox` keeps it and pads with the mean color in the image
    and with ignored pixels in the mask."""


class PhotometricDistortion(Augmentation):
    """Change brightness, contrast, saturation and hue, in this order, each with probability `p` and independently of
    the others.

    Values are clipped to 0 to 255. Images that are not RGB have no saturation or hue, so only brightness and contrast
    change. This follows the training pipeline of SSD (Liu et al., 2016), without its shuffling of channels.
    """

    aliases = (
        "photo_metric_distortion",
        Aliases(
            "color_jitter colour_jitter random_brightness_contrast",
            "its units differ: `brightness` is in levels of 255, `contrast` and `saturation` are ranges such as "
            "`0.5..1.5`, `hue` is in degrees",
        ),
    )

    brightness: Levels = 32.0
    """Largest change of brightness, in gray levels from 0 to 255, up or down."""
    contrast: Factor = Range(0.5, 1.5)
    """Factor applied to all channels."""
    saturation: Factor = Range(0.5, 1.5)
    """Factor applied to the saturation in HSV."""
    hue: Hue = Quantity(18, "deg")
    """Largest rotation of the hue in either direction, in steps of 2 deg."""
    p: Chance = 0.5
    """Probability of each of the four changes."""

    @property
    def gray_arguments(self) -> str:
        return "saturation = 1.0..1.0, hue = 0 deg" if self.hue.value > 0 or self.saturation.low != 1 else ""


class HorizontalFlip(Augmentation):
    """Mirror left and right.

    Do not use it where the side has a meaning: text, left and right organs, traffic lanes.
    """

    aliases = ("random_horizontal_flip hflip fliplr random_flip flip",)
    gallery_arguments: ClassVar[Mapping[str, Any]] = {"p": 0.5}

    p: Chance = 0.5
    """Probability of the flip."""

    @property
    def swaps_sides(self) -> bool:
        return self.p > 0


class VerticalFlip(Augmentation):
    """Mirror top and bottom.

    Use it for images without a fixed up and down: microscopy, surfaces, aerial images.
    """

    aliases = ("random_vertical_flip vflip flipud",)
    gallery_arguments: ClassVar[Mapping[str, Any]] = {"p": 0.5}

    p: Chance = 0.5
    """Probability of the flip."""

    @property
    def swaps_sides(self) -> bool:
        return self.p > 0

    @property
    def turns_upside_down(self) -> bool:
        return self.p > 0

    @property
    def upright_help(self) -> str:
        return "remove it, or use `HorizontalFlip` instead"


class Rotate(Augmentation):
    """Rotate around the center and keep the size.

    The corners that become empty get the mean color in the image and ignored pixels in the mask.
    """

    aliases = ("random_rotation random_rotate rotation",)
    gallery_arguments: ClassVar[Mapping[str, Any]] = {"range": Range(-30, 30, "deg")}

    range: Annotated[Turn, Aliases("degrees degree angle angles limit rotate_limit")] = Range(-10.0, 10.0, "deg")
    """Angles to draw from; positive angles rotate counterclockwise."""
    p: Chance = 0.5
    """Probability of the rotation."""

    @property
    def turns_upside_down(self) -> bool:
        return self.p > 0 and max(abs(self.range.low), abs(self.range.high)) > QUARTER_TURN

    @property
    def upright_help(self) -> str:
        return f"remove it, or write `range = {Range(-QUARTER_TURN, QUARTER_TURN, 'deg')}` at most"


class Affine(Augmentation):
    """Rotate, scale, shear and translate the image in one step and keep its size.

    Areas that become empty get the mean color in the image and ignored pixels in the mask. For most datasets `Rotate`
    and a crop are enough.
    """

    aliases = ("random_affine shift_scale_rotate",)
    gallery_arguments: ClassVar[Mapping[str, Any]] = {
        "rotate": Range(-20, 20, "deg"),
        "scale": Range(0.7, 1.3),
        "shear": Range(-15, 15, "deg"),
    }

    rotate: Annotated[Turn, Aliases("rotation angle degrees")] = Range(-10.0, 10.0, "deg")
    """Angles to draw from; positive angles rotate counterclockwise."""
    scale: Zoom = Range(0.9, 1.1)
    """Factor for height and width together."""
    translate: Shift = Range(-0.1, 0.1)
    """Shift to the right as a share of the width, and shift down as a share of the height; each is drawn from this
    range."""
    shear: Lean = Range(-5.0, 5.0, "deg")
    """Angle by which vertical lines are tilted."""
    p: Chance = 0.5
    """Probability of the step."""

    @property
    def turns_upside_down(self) -> bool:
        return self.p > 0 and max(abs(self.rotate.low), abs(self.rotate.high)) > QUARTER_TURN

    @property
    def upright_help(self) -> str:
        return f"remove it, or write `rotate = {Range(-QUARTER_TURN, QUARTER_TURN, 'deg')}` at most"


class AugMix(Augmentation):
    """Mix several distorted copies of the image with each other and with the image itself (Hendrycks et al., 2020).

    Each copy goes through a chain of changes, drawn from: brightness, contrast, saturation, sharpness, posterize,
    solarize, contrast stretching and histogram equalization. No pixel moves, so the mask stays the same. The model
    becomes more robust to other cameras and to weather; the cost is a few milliseconds per image. Do not use it where
    color alone distinguishes the classes.
    """

    gallery_arguments: ClassVar[Mapping[str, Any]] = {"severity": 0.6}

    chains: Count = 3
    """Number of distorted copies."""
    depth: Count = 3
    """Largest number of changes in a chain; the number is drawn from 1 up."""
    severity: Annotated[float, Gt(0), Le(1)] = 0.3
    """Strength of the strongest change, from 0 to 1."""
    alpha: Annotated[float, Gt(0), Le(100)] = 1.0
    """Parameter of the Dirichlet and Beta distributions that the mixing weights are drawn from; larger values mix more
    evenly."""
    p: Chance = 0.5
    """Probability of the step."""


class GaussianBlur(Augmentation):
    """Blur the image.

    Do not use it where fine texture distinguishes the classes, or where objects are a few pixels wide.
    """

    aliases = ("random_gaussian_blur",)
    gallery_arguments: ClassVar[Mapping[str, Any]] = {"sigma": Range(0.5, 4.0)}

    sigma: Sigma = Range(0.1, 2.0)
    """Standard deviation of the Gaussian kernel, in pixels of the image at this step."""
    p: Chance = 0.5
    """Probability of the blur."""


class GaussianNoise(Augmentation):
    """Add independent Gaussian noise to every value, as sensors do in low light.

    Use it where such images are expected at inference.
    """

    aliases = ("gauss_noise",)
    gallery_arguments: ClassVar[Mapping[str, Any]] = {"std": Range(5, 40)}

    std: LevelRange = Range(0.0, 25.0)
    """Standard deviation of the noise, in gray levels from 0 to 255."""
    p: Chance = 0.5
    """Probability of the noise."""


class Grayscale(Augmentation):
    """Remove the color and leave three equal channels; images that are not RGB stay unchanged.

    Use it where the model will also see grayscale images. Do not use it where color distinguishes the classes.
    """

    aliases = ("to_gray random_grayscale gray grey",)
    gallery_arguments: ClassVar[Mapping[str, Any]] = {"p": 0.5}

    p: Chance = 0.1
    """Probability of the step."""


class CutMix(Augmentation):
    """Replace a rectangle with the same area of another training image (Yun et al., 2019; French et al., 2020).

    The other image goes through the steps before this one, so put it after the crop. It helps with few images, in
    scenes without a fixed layout.
    """

    area: Share = Range(0.1, 0.5)
    """Area of the rectangle as a share of the image area."""
    ratio: Ratio = Range(0.5, 2.0)
    """Width of the rectangle divided by its height, drawn uniformly on a logarithmic scale."""
    p: Chance = 0.5
    """Probability of the step."""


class Mosaic(Augmentation):
    """Combine windows of four training images that meet in one point (Bochkovskiy et al., 2020).

    The other three images go through the steps before this one. It shows many objects at once. Do not use it for scenes
    with a fixed layout, because it destroys their context. Reading four images takes four times as long as reading one.
    """

    center: Place = Range(0.3, 0.7)
    """Position of the point where the four images meet, as a share of height and of width."""
    p: Chance = 0.5
    """Probability of the step."""


class ClassMix(Augmentation):
    """Copy all pixels of some classes from another training image into this one (Olsson et al., 2021).

    The other image goes through the steps before this one. Name rare classes to show them more often than the dataset
    does.
    """

    classes: tuple[str, ...] | None = None
    """Names of the classes to copy; by default, half of the classes in the other image, drawn again for each sample."""
    p: Chance = 0.5
    """Probability of the step."""

    def list_class_names(self) -> tuple[str, ...]:
        return self.classes or ()
