"""The classes that the scores of a subset say little of: they are not in it, or were never predicted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from segdsl.scores.confusion import Confusion
from segdsl.scores.table import short_name

NAMED = 6
"""Classes that a sentence names before it says how many more there are."""


def absent(confusion: Confusion) -> list[int]:
    """The classes that no scored pixel has."""
    return np.flatnonzero(confusion.counts.sum(1) == 0).tolist()


def unpredicted(confusion: Confusion) -> list[int]:
    """The classes that pixels have, and that were never predicted."""
    return np.flatnonzero((confusion.counts.sum(0) == 0) & (confusion.counts.sum(1) > 0)).tolist()


def absences(confusion: Confusion) -> list[str]:
    """A sentence for each kind, where there are any."""
    found = (("never predicted", unpredicted(confusion)), ("not in the validation subset", absent(confusion)))
    return [f"{what}: {_listed([confusion.classes[k] for k in here])}" for what, here in found if here]


def _listed(names: Sequence[str]) -> str:
    rest = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{', '.join(map(short_name, names[:NAMED]))}{rest}"
