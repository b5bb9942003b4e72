"""Datasets and batches for training."""
