"""Files of weights: where they come from, what is in them, and how their tensors get into a model."""
