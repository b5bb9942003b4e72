"""The op of a free parameter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from segdsl.ir.graph import Initializer, Op, ShapeError, State
from segdsl.ir.shape import Extent, Shape, at, show


class Parameter(Op):
    """A trained tensor, written as `param name: shape = init`. Its key is its path."""

    flows: ClassVar[Literal["tensor", "list", "nothing"]] = "nothing"

    shape: tuple[Extent, ...]
    """Extents; symbolic ones take their value at the program's input size; `[]` is a scalar."""
    init: Initializer
    """Initial values."""

    def infer(self, shapes: Sequence[Shape], env: Mapping[str, int]) -> Shape:
        if any(extent == "B" or at(extent, env) < 1 for extent in self.shape) or "B" in show(self.shape):
            # The batch size differs between training and use, so no stored tensor can depend on it.
            message = f"invalid parameter shape {show(self.shape)}"
            raise ShapeError("parameter-shape", message, "use positive extents that do not depend on the batch size")
        return self.shape

    def state(self, shapes: Sequence[Shape]) -> dict[str, State]:
        return {"": State(self.shape)}
