"""What the images show: whether they have an up and a down, a left and a right, colours, and thin things."""

from __future__ import annotations

import re

from segdsl.recipe.choice import Choice, counted, named
from segdsl.recipe.facts import ClassFacts, SetFacts

SIDED = {"left", "right", "text", "letter", "letters", "digit", "digits", "character", "characters", "lettering"}
"""Words in the names of classes that a mirrored image would make wrong."""
UPRIGHT = {"sky", "horizon", "ceiling", "floor", "person", "people", "pedestrian", "rider", "face"}
"""Words that speak of a camera held upright."""
FREE = {
    "cell", "cells", "nucleus", "nuclei", "cytoplasm", "membrane", "mitochondria", "tissue", "gland", "glands",
    "tumor", "tumour", "lesion", "polyp", "bacteria", "colony", "fiber", "fibre", "grain", "grains", "crack", "cracks",
    "scratch", "scratches", "dent", "dents", "stain", "stains", "defect", "defects", "hole", "holes", "pore", "pores",
    "rust", "corrosion", "spot", "spots", "patch", "patches", "inclusion", "pitted", "roof", "runway", "farmland",
}  # fmt: skip
"""Words of things seen under a microscope, on a surface, or from above."""
OFF_MIDDLE = 0.05
"""A class whose pixels lie this share of the height off the middle, on average, has a place."""
SURE = 3.0
"""Standard errors by which an offset must differ from none."""
FEW = 5
"""Images below which nothing is concluded from where a class lies."""
GREY_STEP = "PhotometricDistortion(saturation = 1.0..1.0, hue = 0 deg)"
THIN = 6.0
"""Pixels of width below which a class is thin."""


def words_of(names: list[str]) -> set[str]:
    """The words in the names of classes, in lower case."""
    spaced = [re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name) for name in names]
    return {word for name in spaced for word in re.split(r"[\W\d_]+", name.lower()) if word}


def placed(facts: SetFacts) -> ClassFacts | None:
    """The class that lies farthest above or below the middle, of those that surely do; None where none does."""
    sure = [c for c in facts.classes if _is_sure(c) and abs(c.offset.mean) >= OFF_MIDDLE]
    return max(sure, key=lambda c: abs(c.offset.mean), default=None)


def _is_sure(of: ClassFacts) -> bool:
    return of.offset.images >= FEW and abs(of.offset.mean) > SURE * of.offset.error


def posture(facts: SetFacts) -> tuple[bool, str]:
    """Whether the images may be turned over, and why; an up and a down that is not ruled out is left alone."""
    words, place = words_of(facts.names), placed(facts)
    if place is not None:
        where = "above" if place.offset.mean < 0 else "below"
        off = f"{abs(place.offset.mean):.2f} of the height {where} the middle"
        return False, f"{named(place.name)} lies {off} on average ({counted(place.offset.images, 'image')})"
    if words & UPRIGHT:
        return False, f"a class speaks of an upright camera: {_names_with(facts, UPRIGHT)}"
    farthest = max(facts.classes, key=lambda c: abs(c.offset.mean) if c.offset.images >= FEW else -1.0)
    if farthest.offset.images < FEW:
        return False, f"{counted(facts.train_images, 'image')} are too few to tell"
    measure = f"{abs(farthest.offset.mean):.2f}±{farthest.offset.error:.2f} of the height"
    nowhere = f"no class surely lies above or below the middle ({named(farthest.name)} at most: {measure})"
    if words & FREE:
        return True, f"{_names_with(facts, FREE)} may lie any way round, and {nowhere}"
    return False, f"{nowhere}, but the names do not tell"


def _names_with(facts: SetFacts, words: set[str]) -> str:
    return ", ".join([named(name) for name in facts.names if words_of([name]) & words][:3])


def has_sides(facts: SetFacts) -> str:
    """The classes that a mirrored image would make wrong, as text; empty where there are none."""
    return _names_with(facts, SIDED)


def thin_classes(facts: SetFacts) -> list[ClassFacts]:
    """The classes that are thin, the thinnest first; the one with most pixels, which is what lies between, never."""
    largest = max(facts.classes, key=lambda c: c.share)
    thin = [c for c in facts.classes if c.width < THIN and c is not largest]
    return sorted(thin, key=lambda c: c.width)


def mostly_thin(facts: SetFacts) -> bool:
    """Whether half of the classes, or more, are thin; the one with most pixels does not count."""
    others = sum(1 for c in facts.classes if c.images) - 1
    return others > 0 and 2 * len(thin_classes(facts)) >= others


def is_grey(facts: SetFacts) -> bool:
    """Whether hardly any image has colours."""
    return facts.colored * 20 < facts.sampled


def photometric(facts: SetFacts) -> Choice:
    """The photometric step; only images in colour have saturation and hue."""
    if facts.channels != 3:
        return Choice(GREY_STEP, f"{facts.channels} channels: brightness and contrast alone")
    seen = f"{facts.colored} of {counted(facts.sampled, 'image')} have colours"
    if is_grey(facts):
        return Choice(GREY_STEP, f"{seen}: brightness and contrast alone")
    return Choice("PhotometricDistortion()", seen)
