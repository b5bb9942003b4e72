"""Label remapping words: the entries of `data.remap`."""

from __future__ import annotations

from segdsl.ir.families import Remap


class Merge(Remap):
    """Merge several classes into one, or rename a class: `Merge(["car", "bus"], into = "vehicle")`.

    The merged class takes the place of the first of them in the list of classes. To remove a class altogether, name it
    in `data.exclude`.
    """

    usual_form = 'Merge(["a", "b"], into = "c")'
