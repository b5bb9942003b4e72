"""Initializers of parameters."""

from __future__ import annotations

from segdsl.ir.graph import Initializer
from segdsl.ir.program import PositiveFloat


class Full(Initializer):
    """The same value everywhere; a plain number is short for this."""

    value: float
    """The value."""


class Normal(Initializer):
    """A normal distribution with mean 0."""

    std: PositiveFloat = 0.02
    """Standard deviation."""


class TruncNormal(Initializer):
    """A normal distribution with mean 0, truncated to the range from -2 to 2."""

    std: PositiveFloat = 0.02
    """Standard deviation."""


class Uniform(Initializer):
    """A uniform distribution between two bounds."""

    low: float = 0.0
    """Lower bound."""
    high: float = 1.0
    """Upper bound."""
