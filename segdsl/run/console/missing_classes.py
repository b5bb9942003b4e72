"""Classes whose validation scores mean little: absent from the subset, or never predicted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from segdsl.scores.confusion import Confusion
from segdsl.scores.table import short_name

NAMED = 6
"""Class names that a note lists before it abbreviates to "and N more"."""


def absent(confusion: Confusion) -> list[int]:
    """Return the ids of the classes that no scored pixel has."""
    return np.flatnonzero(confusion.counts.sum(1) == 0).tolist()


def unpredicted(confusion: Confusion) -> list[int]:
    """Return the ids of the classes that occur in the masks but were never predicted."""
    return np.flatnonzero((confusion.counts.sum(0) == 0) & (confusion.counts.sum(1) > 0)).tolist()


def absences(confusion: Confusion) -> list[str]:
    """Return one note for each of the two kinds that occur."""
    found = (("never predicted", unpredicted(confusion)), ("not in the validation subset", absent(confusion)))
    return [f"{what}: {_listed([confusion.classes[k] for k in ids])}" for what, ids in found if ids]


def _listed(names: Sequence[str]) -> str:
    rest = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{', '.join(map(short_name, names[:NAMED]))}{rest}"
