"""What a run can watch: a score over all classes, over the foreground, or of one class."""

from __future__ import annotations

import typing
from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator


class ClassScore(NamedTuple):
    """Marks a text that is the score of one class: one of the ``heads``, a dot and the class (`val.dice.car`). It is
    written bare, and in quotes where the class has no name of the language (`"val.dice.traffic light"`)."""

    heads: tuple[str, ...]

    def names(self, text: str) -> bool:
        """Whether a text is such a score, of whatever class."""
        return any(text.startswith(f"{head}.") and text != f"{head}." for head in self.heads)

    def spelled(self) -> tuple[str, ...]:
        """The scores with `CLASS` in the place of the class."""
        return tuple(f"{head}.CLASS" for head in self.heads)


BY_CLASS = ClassScore(("val.dice", "val.iou"))


def _class_score(value: str) -> str:
    """A validator: the score of a class."""
    if not BY_CLASS.names(value):
        raise ValueError(f"must be {' or '.join(BY_CLASS.spelled())}")
    return value


OverAll = Literal[
    "val.dice", "val.miou", "val.accuracy", "val.loss",
    "val.foreground.dice", "val.foreground.dice_micro", "val.foreground.miou",
]  # fmt: skip
Monitor = OverAll | Annotated[str, BY_CLASS, AfterValidator(_class_score)]
"""What a run watches; `val.loss` is better when smaller, the others when larger."""


def class_of(monitor: str) -> str | None:
    """The class that a run watches, None where it is all of them."""
    if monitor in typing.get_args(OverAll):
        return None
    return next((monitor.removeprefix(f"{head}.") for head in BY_CLASS.heads if monitor.startswith(f"{head}.")), None)
