"""Segmentation scores: confusion counts, boundary F1, per-image scores and score tables."""
