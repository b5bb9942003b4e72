"""What the images show: whether they have a fixed orientation, color, and thin objects."""

from __future__ import annotations

from segdsl.ir.class_names import find_free_classes, find_sided_classes, find_upright_classes
from segdsl.recipe.choice import Choice, quote_name
from segdsl.recipe.facts import ClassFacts, DatasetFacts
from segdsl.text.plural import format_count

MIN_OFFSET = 0.05
"""Smallest mean distance of a class from the vertical center, as a share of the height, that counts as a fixed
position."""
MIN_STANDARD_ERRORS = 3.0
"""Standard errors by which such a distance must exceed zero."""
MIN_IMAGES = 5
"""Smallest number of images from which a position is inferred."""
GRAY_STEP = "PhotometricDistortion(saturation = 1.0..1.0, hue = 0 deg)"
THIN_WIDTH = 6.0
"""Width in pixels below which a class is thin."""


def find_offset_class(facts: DatasetFacts) -> ClassFacts | None:
    """Return the class farthest above or below the vertical center, if its distance is significant, or None."""
    sure = [c for c in facts.classes if _is_offset_significant(c) and abs(c.offset.mean) >= MIN_OFFSET]
    return max(sure, key=lambda c: abs(c.offset.mean), default=None)


def _is_offset_significant(class_facts: ClassFacts) -> bool:
    return (
        class_facts.offset.images >= MIN_IMAGES
        and abs(class_facts.offset.mean) > MIN_STANDARD_ERRORS * class_facts.offset.error
    )


def decide_vertical_flip(facts: DatasetFacts) -> tuple[bool, str]:
    """Return whether images may be flipped vertically, and the reason; if it is unclear, they may not."""
    # Measured positions come first: they hold whatever the classes are called.
    place = find_offset_class(facts)
    if place is not None:
        where = "above" if place.offset.mean < 0 else "below"
        off = f"{abs(place.offset.mean):.2f} of the image height {where} the center"
        return False, f"{quote_name(place.name)} is on average {off} ({format_count(place.offset.images, 'image')})"
    if upright := find_upright_classes(facts.names):
        return False, f"class names suggest an upright camera: {_format_first_names(upright)}"
    farthest = max(facts.classes, key=lambda c: abs(c.offset.mean) if c.offset.images >= MIN_IMAGES else -1.0)
    if farthest.offset.images < MIN_IMAGES:
        return False, f"too few images to find out ({format_count(facts.train_images, 'image')})"
    measure = f"{abs(farthest.offset.mean):.2f}±{farthest.offset.error:.2f} of the height"
    nowhere = f"no class is clearly above or below the center (the farthest is {quote_name(farthest.name)}: {measure})"
    # Both are required: a class can be centered in images that still have a fixed up and down.
    if free := find_free_classes(facts.names):
        return True, f"{_format_first_names(free)} can have any orientation, and {nowhere}"
    return False, f"{nowhere}, but the class names do not confirm it"


def _format_first_names(names: list[str]) -> str:
    return ", ".join(quote_name(name) for name in names[:3])


def format_sided_classes(facts: DatasetFacts) -> str:
    """Return the quoted names of the classes that mirroring would make wrong, or an empty string."""
    return _format_first_names(find_sided_classes(facts.names))


def find_thin_classes(facts: DatasetFacts) -> list[ClassFacts]:
    """Return the thin classes, the thinnest first.

    The class with the most pixels never counts: it is what surrounds the others.
    """
    largest = max(facts.classes, key=lambda c: c.share)
    thin = [c for c in facts.classes if c.width < THIN_WIDTH and c is not largest]
    return sorted(thin, key=lambda c: c.width)


def has_mostly_thin_classes(facts: DatasetFacts) -> bool:
    """Return whether at least half of the classes, the largest aside, are thin."""
    others = sum(1 for c in facts.classes if c.images) - 1
    return others > 0 and 2 * len(find_thin_classes(facts)) >= others


def is_grayscale(facts: DatasetFacts) -> bool:
    """Return whether fewer than 5 % of the sampled images have color."""
    return facts.color_images * 20 < facts.sample_images


def choose_photometric_step(facts: DatasetFacts) -> Choice:
    """Choose the photometric step; saturation and hue are changed in color images only."""
    if facts.channels != 3:
        return Choice(GRAY_STEP, f"{facts.channels} channels: brightness and contrast only")
    seen = f"{facts.color_images} of {format_count(facts.sample_images, 'sampled image')} have color"
    if is_grayscale(facts):
        return Choice(GRAY_STEP, f"{seen}: brightness and contrast only")
    return Choice("PhotometricDistortion()", seen)
