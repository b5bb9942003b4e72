"""Checks of a whole program: errors between sections, and warnings."""
