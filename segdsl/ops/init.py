"""How a free parameter starts."""

from __future__ import annotations

from segdsl.ir.graph import Initializer
from segdsl.ir.program import PositiveFloat


class Full(Initializer):
    """The same number everywhere; a plain number means this."""

    value: float
    """The number."""


class Normal(Initializer):
    """A normal distribution around 0."""

    std: PositiveFloat = 0.02
    """Its standard deviation."""


class TruncNormal(Initializer):
    """A normal distribution around 0, drawn again where it lies beyond -2 or 2."""

    std: PositiveFloat = 0.02
    """Its standard deviation."""


class Uniform(Initializer):
    """Every number between two bounds with equal chance."""

    low: float = 0.0
    """The lower bound."""
    high: float = 1.0
    """The upper bound."""
