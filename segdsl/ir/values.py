"""Values of `.seg` literals other than numbers, strings and lists, and the field types built on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, NamedTuple

from segdsl.diagnostics.aliases import register_aliases
from segdsl.ir.shape import Extent


@dataclass(frozen=True, slots=True)
class Size:
    """`480x640`: height x width, in pixels."""

    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.height}x{self.width}"


@dataclass(frozen=True, slots=True)
class Quantity:
    """`100 iters`: a number with a unit."""

    value: float
    unit: str

    def __str__(self) -> str:
        return f"{format_number(self.value)} {self.unit}"


@dataclass(frozen=True, slots=True)
class Range:
    """`0.2..1.0`, both ends included; ``unit`` is the unit of both ends, or None."""

    low: float
    high: float
    unit: str | None = None

    def __str__(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        return f"{format_number(self.low, floating=True)}{unit}..{format_number(self.high, floating=True)}{unit}"


class Units(NamedTuple):
    """Marks a Quantity or Range field with the units it accepts. A number without a unit is an error there."""

    names: tuple[str, ...]


class PathText:
    """Marks a string field that is written as a dotted path without quotes (`train.freeze = [backbone.stage0]`)."""


Duration = Annotated[Quantity, Units(("iters", "epochs"))]
"""A length of training: `100 iters` or `4 epochs`."""
Angle = Annotated[Quantity, Units(("deg",))]
"""An angle: `18 deg`."""
AngleRange = Annotated[Range, Units(("deg",))]
"""A range of angles: `-10 deg..10 deg`."""


class OrSingle:
    """Marks a Range field that also takes a single number, which is then both ends."""


Memory = Annotated[Quantity, Units(("KiB", "MiB", "GiB"))]
"""An amount of memory: `4 GiB`."""
GraphPath = Annotated[str, PathText()]
"""A part of the model's graph, by the path of its bindings."""

UNITS = ("iters", "epochs", "deg", "px", "KiB", "MiB", "GiB")
"""All units of the language."""
register_aliases("iters", "steps step iterations it iteration batches")
register_aliases("epochs", "ep e")
register_aliases("deg", "degrees degree d")
register_aliases("px", "pixels pixel")
register_aliases("GiB", "gb g")
register_aliases("MiB", "mb m")
register_aliases("KiB", "kb k")
register_aliases("true", "yes on")
register_aliases("false", "no off")


class Horizon(NamedTuple):
    """The maximum length of a run: optimizer steps per epoch, and epochs."""

    steps_per_epoch: int
    epochs: int

    @property
    def total_steps(self) -> int:
        """The number of steps of the whole run."""
        return self.steps_per_epoch * self.epochs

    def convert_to_steps(self, length: Quantity) -> int:
        """Return a duration in steps, rounded to the nearest integer."""
        return round(length.value * (self.steps_per_epoch if length.unit == "epochs" else 1))


def format_number(value: float | int, *, floating: bool = False) -> str:
    """Format a number for `.seg`: the shortest text that reads back as the same value."""
    if isinstance(value, int) and not floating:
        return str(value)
    # From 1e15 on, `repr` switches to exponents, which are shorter than the digits.
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{value:.1f}" if floating else str(int(value))
    return repr(float(value))


def quote_string(text: str) -> str:
    """Format a string for `.seg`, with quotes and escapes."""
    # The backslash comes first: escaping it later would double the backslashes of the other escapes.
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t") + '"'


def format_literal(value: object) -> str:
    """Format a number, string, boolean, none, size, range or quantity for `.seg`."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return format_number(value, floating=True)
    if isinstance(value, str):
        return quote_string(value)
    return "none" if value is None else str(value)


__all__ = [
    "UNITS",
    "Angle",
    "AngleRange",
    "Duration",
    "Extent",
    "GraphPath",
    "Horizon",
    "Memory",
    "OrSingle",
    "PathText",
    "Quantity",
    "Range",
    "Size",
    "Units",
    "format_literal",
    "format_number",
    "quote_string",
]
