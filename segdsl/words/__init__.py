"""All words of the language's sections; importing this package registers them."""

from segdsl.words import (
    augmentations,
    checkpoint_policies,
    exports,
    formats,
    imported_formats,
    label_remaps,
    losses,
    optimizers,
    samplers,
    schedules,
    stoppers,
    weight_averaging,
)

__all__ = [
    "augmentations",
    "checkpoint_policies",
    "exports",
    "formats",
    "imported_formats",
    "label_remaps",
    "losses",
    "optimizers",
    "samplers",
    "schedules",
    "stoppers",
    "weight_averaging",
]
