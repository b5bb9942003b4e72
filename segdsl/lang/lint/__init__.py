"""Checks of a whole program: errors across sections, and warnings."""
