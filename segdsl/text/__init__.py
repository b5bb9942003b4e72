"""Pieces of text that every layer writes alike: counts with their noun, listings, and columns of a terminal."""
