"""Scores that a training run can monitor: over all classes, over the foreground, or of a single class."""

from __future__ import annotations

import typing
from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator

from segdsl.diagnostics.aliases import register_aliases


class ClassScore(NamedTuple):
    """Marks a string field that takes the score of a single class, such as `val.dice.car`.

    The score is one of the ``heads``, a dot and the class. It is written without quotes, unless the class is not a
    valid name in the language (`"val.dice.traffic light"`).
    """

    heads: tuple[str, ...]

    def matches_text(self, text: str) -> bool:
        """Return whether a text is the score of a class, whether or not that class exists."""
        return any(text.startswith(f"{head}.") and text != f"{head}." for head in self.heads)

    def list_forms(self) -> tuple[str, ...]:
        """Return the possible forms with a placeholder: `val.dice.CLASS`."""
        return tuple(f"{head}.CLASS" for head in self.heads)


BY_CLASS = ClassScore(("val.dice", "val.iou"))


def _validate_class_score(value: str) -> str:
    """Validate that a value is the score of a class."""
    if not BY_CLASS.matches_text(value):
        raise ValueError(f"must be {' or '.join(BY_CLASS.list_forms())}")
    return value


OverAll = Literal[
    "val.dice", "val.miou", "val.accuracy", "val.loss",
    "val.foreground.dice", "val.foreground.dice_micro", "val.foreground.miou",
]  # fmt: skip
Monitor = OverAll | Annotated[str, BY_CLASS, AfterValidator(_validate_class_score)]
"""The score that a run monitors; lower is better for `val.loss`, higher for the others."""
register_aliases("val.miou", "miou mean_iou iou val_miou val_iou jaccard")
register_aliases("val.dice", "dice val_dice f1 mdice macro_f1")
register_aliases("val.accuracy", "accuracy acc val_acc val_accuracy aacc pixel_accuracy")
register_aliases("val.loss", "loss val_loss valid_loss")


def extract_class(monitor: str) -> str | None:
    """Return the class of a class score, or None for a score over several classes."""
    # `val.foreground.dice` has a dot as well, so the scores over several classes are excluded first.
    if monitor in typing.get_args(OverAll):
        return None
    return next((monitor.removeprefix(f"{head}.") for head in BY_CLASS.heads if monitor.startswith(f"{head}.")), None)
