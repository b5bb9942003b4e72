"""The index of a dataset and the checks of its files."""
