"""Every word of the sections; importing this package registers them."""

from segdsl.words import (
    augmentations,
    averagers,
    exports,
    keepers,
    losses,
    optimizers,
    remaps,
    samplers,
    schedules,
    stoppers,
)

__all__ = [
    "augmentations",
    "averagers",
    "exports",
    "keepers",
    "losses",
    "optimizers",
    "remaps",
    "samplers",
    "schedules",
    "stoppers",
]
