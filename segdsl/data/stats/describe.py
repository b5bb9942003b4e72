"""Descriptions of the images of a subset as text."""

from __future__ import annotations

from collections.abc import Sequence

from segdsl.data.stats.survey import Spread, SubsetStats

MAX_LISTED_SIZES = 6
"""Number of different sizes up to which each is listed."""
NO_BREAK_SPACE = "\N{NO-BREAK SPACE}"


def format_channels(stats: SubsetStats) -> str:
    """Format the Pillow modes of the images with their counts."""
    return _format_counts(stats.modes.most_common(), stats.images)


def format_sizes(stats: SubsetStats) -> str:
    """Format the image sizes: a few one by one, many as ranges. Height comes first, as in the language."""
    if len(stats.sizes) <= MAX_LISTED_SIZES:
        counts = [(f"{h}x{w}", n) for (h, w), n in stats.sizes.most_common()]
        return _format_counts(counts, stats.images)
    height, width, aspect = stats.compute_heights(), stats.compute_widths(), stats.compute_aspects()
    return (
        f"{len(stats.sizes):,} different: height {_format_spread(height)}; width {_format_spread(width)}; "
        f"aspect ratio (width/height) {aspect.minimum:.2f} to {aspect.maximum:.2f}, median {aspect.median:.2f}"
    )


def _format_spread(spread: Spread) -> str:
    return f"{spread.minimum:.0f} to {spread.maximum:.0f}, median {spread.median:.0f}"


def _format_counts(counts: Sequence[tuple[str, int]], total: int) -> str:
    if len(counts) == 1 and counts[0][1] == total:
        return f"{counts[0][0]} (all images)"
    # No-break spaces, so that a wrapped line never separates a value from its count.
    return ", ".join(f"{value}{NO_BREAK_SPACE}({n:,})" for value, n in counts)
