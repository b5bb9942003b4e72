"""The choice of the training and the validation subset, by their names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from segdsl.data.formats.layout import FLAT_SUBSET
from segdsl.diagnostics import SegError, fail

TRAIN_NAMES = ("train", "training", "trainval", "learn")
VAL_NAMES = ("val", "valid", "validation", "dev", "test", "testing", "eval")
"""Usual names of the subsets, in order of preference."""


def pick_subsets(names: Sequence[str], split_help: str, root: Path) -> tuple[str, str]:
    """Return the names of the training and the validation subset; ``split_help`` tells how to make a second subset.

    Raises :class:`SegError` if there is only one subset (`subset-single`) or the names are ambiguous
    (`subset-unclear`).
    """
    if len(names) == 1:
        raise _make_single_subset_error(names[0], split_help, root)
    train, val = _match_name(names, TRAIN_NAMES), _match_name(names, VAL_NAMES)
    # With two subsets and one clear name, the other one has the other purpose.
    if len(names) == 2 and (train is None) != (val is None):
        other = next(name for name in names if name not in (train, val))
        train, val = train or other, val or other
    if train is None or val is None or train == val:
        listing = ", ".join(f"`{name}`" for name in names)
        purpose = "training" if train is None else "validation"
        message = f"cannot tell which of the subsets {listing} is for {purpose}"
        help = f"pass `--subset {names[0]} --subset {names[1]}`: the first for training, the second for validation"
        raise fail("subset-unclear", message, help, path=str(root))
    return train, val


def _match_name(names: Sequence[str], candidates: Sequence[str]) -> str | None:
    """Return the name that equals a candidate, or else one that has a candidate among its words, such as
    `my_train_2024`."""
    # Exact names first: in a dataset with `val` and `train_val`, `train_val` must not win over `val`.
    for word in candidates:
        for name in names:
            if name.lower() == word:
                return name
    for word in candidates:
        for name in names:
            if word in re.split(r"[^a-z]+", name.lower()):
                return name
    return None


def _make_single_subset_error(name: str, split_help: str, root: Path) -> SegError:
    only = "the dataset has a single subset" + ("" if name == FLAT_SUBSET else f", `{name}`")
    message = f"{only}; validation needs images that are not used for training"
    help = f"{split_help}; keep images of the same scene, video or patient in the same subset"
    return fail("subset-single", message, help, path=str(root))
