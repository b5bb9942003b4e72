"""Which subset is learnt from and which is scored on, by their names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from segdsl.data.formats.layout import COMMON, FLAT_SUBSET
from segdsl.diagnostics import SegError, fail

TRAIN = ("train", "training", "trainval", "learn")
VAL = ("val", "valid", "validation", "dev", "test", "testing", "eval")
"""What subsets are called, the first that is there first."""
SPLITS = {
    COMMON: "make the folders `train` and `val`, each with `images`, `masks` and `dataset_meta.json`, and move about a "
    "fifth of the images with their masks into `val`",
    "folders": "make the folders `train` and `val`, each with `images` and `masks`, and move about a fifth of the "
    "images with their masks into `val`",
    "voc_segmentation": "move about a fifth of the names into a second list, `ImageSets/Segmentation/val.txt`",
    "datumaro": "move about a fifth of the items into a second file, `annotations/val.json`",
    "coco_instances": "move about a fifth of the images with their annotations into a second file, "
    "`annotations/instances_val.json`",
}


def two_subsets(names: Sequence[str], format: str, root: Path) -> tuple[str, str]:
    """The subset to learn from and the one to score on. Raises :class:`SegError` where there is only one
    (`subset-single`), or where the names do not tell (`subset-unclear`)."""
    if len(names) == 1:
        raise _single(names[0], format, root)
    train, val = _first(names, TRAIN), _first(names, VAL)
    if len(names) == 2 and (train is None) != (val is None):
        other = next(name for name in names if name not in (train, val))
        train, val = train or other, val or other
    if train is None or val is None or train == val:
        listing = ", ".join(f"`{name}`" for name in names)
        missing = "learn from" if train is None else "score on"
        message = f"the names of the subsets, {listing}, do not say which one to {missing}"
        help = f"say it: `--subset {names[0]} --subset {names[1]}` learns from the first and scores on the second"
        raise fail("subset-unclear", message, help, path=str(root))
    return train, val


def _first(names: Sequence[str], known: Sequence[str]) -> str | None:
    """The name that is a known one, or has one among its words: `train`, then `my_train_2024`."""
    for word in known:
        for name in names:
            if name.lower() == word:
                return name
    for word in known:
        for name in names:
            if word in re.split(r"[^a-z]+", name.lower()):
                return name
    return None


def _single(name: str, format: str, root: Path) -> SegError:
    what = "the data set has one subset" + ("" if name == FLAT_SUBSET else f", `{name}`")
    message = f"{what}: nothing is left to score on what was not learnt"
    split = SPLITS.get(format, "move about a fifth of the images with their masks into a second subset, `val`")
    help = f"{split}; pictures of one scene, one film or one patient belong on one side"
    return fail("subset-single", message, help, path=str(root))
