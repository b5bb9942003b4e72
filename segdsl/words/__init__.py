"""Every word of the sections; importing this package registers them."""

from segdsl.words import keepers, losses, optimizers, schedules, stoppers

__all__ = ["keepers", "losses", "optimizers", "schedules", "stoppers"]
