"""Datasets: index, checks, decoding, augmentation, batches, the demo dataset. Only `data/loading/` imports torch."""
