"""The readers of the dataset formats; each module registers its own, by the name of the format's record."""
