"""Classes whose validation scores mean little: absent from the subset, or never predicted."""

from __future__ import annotations

import numpy as np

from segdsl.scores.confusion import Confusion
from segdsl.scores.table import shorten_class_name
from segdsl.text.listing import join_names


def find_absent_classes(confusion: Confusion) -> list[int]:
    """Return the ids of the classes that no scored pixel has."""
    return np.flatnonzero(confusion.counts.sum(1) == 0).tolist()


def find_unpredicted_classes(confusion: Confusion) -> list[int]:
    """Return the ids of the classes that occur in the masks but were never predicted."""
    return np.flatnonzero((confusion.counts.sum(0) == 0) & (confusion.counts.sum(1) > 0)).tolist()


def format_absence_notes(confusion: Confusion) -> list[str]:
    """Return a note if all classes but one are lost, and one for each kind of missing class."""
    found = (
        ("never predicted", find_unpredicted_classes(confusion)),
        ("not in the validation subset", find_absent_classes(confusion)),
    )
    sole = confusion.find_sole_class()
    lost = [] if sole is None else [f"nothing but `{shorten_class_name(confusion.classes[sole])}` is predicted"]
    return lost + [
        f"{what}: {join_names([shorten_class_name(confusion.classes[k]) for k in ids])}" for what, ids in found if ids
    ]
