"""Conversion of expressions to the typed fields of words."""
