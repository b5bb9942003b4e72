"""Data sets: index, check, decoding, augmentation, batches, and the demo set. Only `loader` imports torch."""
