"""Dataset formats: how each names its images, masks and classes."""
