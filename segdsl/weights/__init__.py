"""Initial weights: finding and downloading weights files, reading them, and loading their tensors into a model."""
