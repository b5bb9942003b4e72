"""What the images show: whether they have a fixed orientation, color, and thin objects."""

from __future__ import annotations

import re

from segdsl.recipe.choice import Choice, counted, named
from segdsl.recipe.facts import ClassFacts, SetFacts

# Single words are compared, so that `leftover` or `texture` do not match `left` or `text`.
SIDED = {"left", "right", "text", "letter", "letters", "digit", "digits", "character", "characters", "lettering"}
"""Words in class names for which mirroring an image would make the label wrong."""
UPRIGHT = {"sky", "horizon", "ceiling", "floor", "person", "people", "pedestrian", "rider", "face"}
"""Words in class names that imply a camera held upright."""
FREE = {
    "cell", "cells", "nucleus", "nuclei", "cytoplasm", "membrane", "mitochondria", "tissue", "gland", "glands",
    "tumor", "tumour", "lesion", "polyp", "bacteria", "colony", "fiber", "fibre", "grain", "grains", "crack", "cracks",
    "scratch", "scratches", "dent", "dents", "stain", "stains", "defect", "defects", "hole", "holes", "pore", "pores",
    "rust", "corrosion", "spot", "spots", "patch", "patches", "inclusion", "pitted", "roof", "runway", "farmland",
}  # fmt: skip
"""Words in class names for things seen under a microscope, on a surface, or from above."""
OFF_MIDDLE = 0.05
"""Smallest mean distance of a class from the vertical center, as a share of the height, that counts as a fixed
position."""
SURE = 3.0
"""Standard errors by which such a distance must exceed zero."""
FEW = 5
"""Smallest number of images from which a position is inferred."""
GREY_STEP = "PhotometricDistortion(saturation = 1.0..1.0, hue = 0 deg)"
THIN = 6.0
"""Width in pixels below which a class is thin."""


def words_of(names: list[str]) -> set[str]:
    """Return the words in class names, in lower case."""
    spaced = [re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name) for name in names]
    return {word for name in spaced for word in re.split(r"[\W\d_]+", name.lower()) if word}


def placed(facts: SetFacts) -> ClassFacts | None:
    """Return the class farthest above or below the vertical center, if its distance is significant, or None."""
    sure = [c for c in facts.classes if _is_sure(c) and abs(c.offset.mean) >= OFF_MIDDLE]
    return max(sure, key=lambda c: abs(c.offset.mean), default=None)


def _is_sure(of: ClassFacts) -> bool:
    return of.offset.images >= FEW and abs(of.offset.mean) > SURE * of.offset.error


def posture(facts: SetFacts) -> tuple[bool, str]:
    """Return whether images may be flipped vertically, and the reason; if it is unclear, they may not."""
    # Measured positions come first: they hold whatever the classes are called.
    words, place = words_of(facts.names), placed(facts)
    if place is not None:
        where = "above" if place.offset.mean < 0 else "below"
        off = f"{abs(place.offset.mean):.2f} of the image height {where} the center"
        return False, f"{named(place.name)} is on average {off} ({counted(place.offset.images, 'image')})"
    if words & UPRIGHT:
        return False, f"class names suggest an upright camera: {_names_with(facts, UPRIGHT)}"
    farthest = max(facts.classes, key=lambda c: abs(c.offset.mean) if c.offset.images >= FEW else -1.0)
    if farthest.offset.images < FEW:
        return False, f"too few images to find out ({counted(facts.train_images, 'image')})"
    measure = f"{abs(farthest.offset.mean):.2f}±{farthest.offset.error:.2f} of the height"
    nowhere = f"no class is clearly above or below the center (the farthest is {named(farthest.name)}: {measure})"
    # Both are required: a class can be centered in images that still have a fixed up and down.
    if words & FREE:
        return True, f"{_names_with(facts, FREE)} can have any orientation, and {nowhere}"
    return False, f"{nowhere}, but the class names do not confirm it"


def _names_with(facts: SetFacts, words: set[str]) -> str:
    return ", ".join([named(name) for name in facts.names if words_of([name]) & words][:3])


def has_sides(facts: SetFacts) -> str:
    """Return the quoted names of the classes that mirroring would make wrong, or an empty string."""
    return _names_with(facts, SIDED)


def thin_classes(facts: SetFacts) -> list[ClassFacts]:
    """Return the thin classes, the thinnest first.

    The class with the most pixels never counts: it is what surrounds the others.
    """
    largest = max(facts.classes, key=lambda c: c.share)
    thin = [c for c in facts.classes if c.width < THIN and c is not largest]
    return sorted(thin, key=lambda c: c.width)


def mostly_thin(facts: SetFacts) -> bool:
    """Return whether at least half of the classes, the largest aside, are thin."""
    others = sum(1 for c in facts.classes if c.images) - 1
    return others > 0 and 2 * len(thin_classes(facts)) >= others


def is_grey(facts: SetFacts) -> bool:
    """Return whether fewer than 5 % of the sampled images have color."""
    return facts.colored * 20 < facts.sampled


def photometric(facts: SetFacts) -> Choice:
    """Choose the photometric step; saturation and hue are changed in color images only."""
    if facts.channels != 3:
        return Choice(GREY_STEP, f"{facts.channels} channels: brightness and contrast only")
    seen = f"{facts.colored} of {counted(facts.sampled, 'sampled image')} have color"
    if is_grey(facts):
        return Choice(GREY_STEP, f"{seen}: brightness and contrast only")
    return Choice("PhotometricDistortion()", seen)
