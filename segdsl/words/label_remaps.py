"""Changes of the label space by name: entries of `data.remap`."""

from __future__ import annotations

from segdsl.ir.program import Remap


class Merge(Remap):
    """Makes one class of several, or gives one another name: `Merge(["car", "bus"], into = "vehicle")`.

    It stands in the list of classes where the first of them stood. A class that is left out for good is named in
    `data.exclude`.
    """
