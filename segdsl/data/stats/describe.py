"""Descriptions of the images of a subset as text."""

from __future__ import annotations

from collections.abc import Sequence

from segdsl.data.stats.survey import Spread, SubsetStats

FEW_SIZES = 6
"""Number of different sizes up to which each is listed."""
UNBROKEN = "\N{NO-BREAK SPACE}"


def said_channels(stats: SubsetStats) -> str:
    """Format the Pillow modes of the images with their counts."""
    return _listed(stats.modes.most_common(), stats.images)


def said_sizes(stats: SubsetStats) -> str:
    """Format the image sizes: a few one by one, many as ranges. Height comes first, as in the language."""
    if len(stats.sizes) <= FEW_SIZES:
        counts = [(f"{h}x{w}", n) for (h, w), n in stats.sizes.most_common()]
        return _listed(counts, stats.images)
    height, width, aspect = stats.heights(), stats.widths(), stats.aspects()
    return (
        f"{len(stats.sizes):,} different: height {_spread(height)}; width {_spread(width)}; "
        f"aspect ratio (width/height) {aspect.least:.2f} to {aspect.greatest:.2f}, median {aspect.median:.2f}"
    )


def _spread(spread: Spread) -> str:
    return f"{spread.least:.0f} to {spread.greatest:.0f}, median {spread.median:.0f}"


def _listed(counted: Sequence[tuple[str, int]], whole: int) -> str:
    if len(counted) == 1 and counted[0][1] == whole:
        return f"{counted[0][0]} (all images)"
    # No-break spaces, so that a wrapped line never separates a value from its count.
    return ", ".join(f"{value}{UNBROKEN}({n:,})" for value, n in counted)
