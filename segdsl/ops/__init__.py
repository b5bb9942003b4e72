"""The primitive ops of the graph, one module per family. Importing this package registers all of them."""

from __future__ import annotations

from segdsl.ops import act, attention, conv, drop, factor, join, norm, parameter, pool, resize, scalar, tokens

__all__ = [
    "act", "attention", "conv", "drop", "factor", "join", "norm", "parameter", "pool", "resize", "scalar",
    "tokens",
]  # fmt: skip
