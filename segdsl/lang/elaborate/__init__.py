"""Elaboration: evaluation of expressions and blocks into the model graph."""
