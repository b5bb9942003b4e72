"""What the images of a subset are, in words."""

from __future__ import annotations

from collections.abc import Sequence

from segdsl.data.stats.survey import Spread, SubsetStats

FEW_SIZES = 6
"""So many different sizes are listed one by one."""
UNBROKEN = "\N{NO-BREAK SPACE}"


def said_channels(stats: SubsetStats) -> str:
    """The modes of the images, as Pillow calls them."""
    return _listed(stats.modes.most_common(), stats.images)


def said_sizes(stats: SubsetStats) -> str:
    """Few sizes one by one, of many the spread; height comes first, as in the language."""
    if len(stats.sizes) <= FEW_SIZES:
        listed = [(f"{h}x{w}", n) for (h, w), n in stats.sizes.most_common()]
        return _listed(listed, stats.images)
    height, width, aspect = stats.heights(), stats.widths(), stats.aspects()
    return (
        f"{len(stats.sizes):,} different: height {_spread(height)}; width {_spread(width)}; "
        f"width over height {aspect.least:.2f} to {aspect.greatest:.2f}, median {aspect.median:.2f}"
    )


def _spread(spread: Spread) -> str:
    return f"{spread.least:.0f} to {spread.greatest:.0f}, median {spread.median:.0f}"


def _listed(counted: Sequence[tuple[str, int]], whole: int) -> str:
    if len(counted) == 1 and counted[0][1] == whole:
        return f"{counted[0][0]} in all"
    return ", ".join(f"{what}{UNBROKEN}in{UNBROKEN}{n:,}" for what, n in counted)
