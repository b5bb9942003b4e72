"""What the name of a class tells about images that show it: whether they may be turned over or mirrored.

`segdsl new` and `segdsl check` ask the same lists, so that the one does not write what the other warns of.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

# Single words are compared, so that `leftover`, `texture` or `background` do not match `left`, `text` or `ground`.
SIDED_WORDS = frozenset({
    "left", "right", "text", "letter", "letters", "digit", "digits", "character", "characters", "lettering",
})  # fmt: skip
"""Words in class names for which mirroring an image would make the label wrong."""
UPRIGHT_WORDS = frozenset({
    "sky", "horizon", "ceiling", "floor", "ground", "road", "street", "sidewalk", "pavement", "person", "people",
    "pedestrian", "rider", "face",
})  # fmt: skip
"""Words in class names that imply a camera held upright."""
FREE_WORDS = frozenset({
    "cell", "cells", "nucleus", "nuclei", "cytoplasm", "membrane", "mitochondria", "tissue", "gland", "glands",
    "tumor", "tumour", "lesion", "polyp", "bacteria", "colony", "fiber", "fibre", "grain", "grains", "crack", "cracks",
    "scratch", "scratches", "dent", "dents", "stain", "stains", "defect", "defects", "hole", "holes", "pore", "pores",
    "rust", "corrosion", "spot", "spots", "patch", "patches", "inclusion", "pitted", "roof", "runway", "farmland",
})  # fmt: skip
"""Words in class names for things seen under a microscope, on a surface, or from above."""


def split_words(names: Iterable[str]) -> set[str]:
    """Return the words in class names, in lower case."""
    spaced = [re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name) for name in names]
    return {word for name in spaced for word in re.split(r"[\W\d_]+", name.lower()) if word}


def find_sided_classes(names: Sequence[str]) -> list[str]:
    """Return the classes whose label would be wrong in a mirrored image."""
    return [name for name in names if split_words([name]) & SIDED_WORDS]


def find_free_classes(names: Sequence[str]) -> list[str]:
    """Return the classes that can have any orientation."""
    return [name for name in names if split_words([name]) & FREE_WORDS]


def find_upright_classes(names: Sequence[str]) -> list[str]:
    """Return the classes with a fixed orientation; `pavement crack` has none, since a crack has none."""
    return [name for name in names if split_words([name]) & UPRIGHT_WORDS and not split_words([name]) & FREE_WORDS]
