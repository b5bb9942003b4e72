"""Expressions converted to the typed fields of words."""
