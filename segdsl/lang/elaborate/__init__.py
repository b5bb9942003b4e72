"""Elaboration: expressions and blocks evaluated into the graph."""
