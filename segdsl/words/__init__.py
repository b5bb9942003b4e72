"""Every word of the sections; importing this package registers them."""

from segdsl.words import augmentations, exports, keepers, losses, optimizers, remaps, samplers, schedules, stoppers

__all__ = ["augmentations", "exports", "keepers", "losses", "optimizers", "remaps", "samplers", "schedules", "stoppers"]
