"""Free parameters, and how they are initialized."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from segdsl.ir.fields import PositiveFloat
from segdsl.ir.graph import Initializer, Op, ShapeError, State
from segdsl.ir.shape import Extent, Shape, evaluate_extent, format_shape


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


class Parameter(Op):
    """A trained tensor, written as `param name: shape = init`. Its key is its path."""

    flows: ClassVar[Literal["tensor", "list", "nothing"]] = "nothing"

    shape: tuple[Extent, ...]
    """Extents; symbolic ones take their value at the program's input size; `[]` is a scalar."""
    init: Initializer
    """Initial values."""

    def infer_shape(self, shapes: Sequence[Shape], env: Mapping[str, int]) -> Shape:
        if any(extent == "B" or evaluate_extent(extent, env) < 1 for extent in self.shape) or "B" in format_shape(
            self.shape
        ):
            # The batch size differs between training and use, so no stored tensor can depend on it.
            message = f"invalid parameter shape {format_shape(self.shape)}"
            raise ShapeError("parameter-shape", message, "use positive extents that do not depend on the batch size")
        return self.shape

    def declare_state(self, shapes: Sequence[Shape]) -> dict[str, State]:
        return {"": State(self.shape)}
