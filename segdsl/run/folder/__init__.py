"""The run folder: its files, its lock, and resuming from it."""
