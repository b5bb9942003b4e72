"""Nouns in singular and plural."""

from __future__ import annotations


def pick_noun(number: int, noun: str, plural: str = "") -> str:
    """Return ``noun`` in the form that agrees with ``number``; ``plural`` is for nouns that need more than an `s`."""
    return noun if number == 1 else plural or f"{noun}s"


def format_count(number: int, noun: str, plural: str = "") -> str:
    """Format a number with its noun: `1 image`, `1,200 images`."""
    return f"{number:,} {pick_noun(number, noun, plural)}"
