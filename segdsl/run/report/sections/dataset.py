"""The section on the dataset: sizes and channels of images, and the frequency of each class by subset."""

from __future__ import annotations

from segdsl.data.pictures.canvas import colors_of
from segdsl.data.stats.describe import said_channels, said_sizes
from segdsl.data.stats.survey import ClassStats, SubsetStats
from segdsl.run.report.markup import Html, facts, joined, named, table, tag
from segdsl.run.report.run_data import Material
from segdsl.run.report.sections.images import swatch

NAMED = 3
"""Number of example images listed for a rare class."""


def dataset(material: Material) -> Html:
    """Render the counts of `segdsl data stats` for the subsets of the run."""
    if not material.stats or material.index is None:
        return tag("p", f"No statistics of the dataset: {material.missing}.", class_="missing")
    about = facts(("folder", str(material.index.root.resolve())), ("format", material.index.format))
    return joined(about, *(_subset(material, name, stats) for name, stats in material.stats.items()))


def _subset(material: Material, name: str, stats: SubsetStats) -> Html:
    assert material.index is not None
    colors = colors_of(material.index.labels)
    rows: list[list[str]] = [
        [joined(swatch(colors[k]), named(label)), *_counted(stats, stats.of(k))]
        for k, label in enumerate(material.classes)
    ]
    rows.append(["ignored", *_counted(stats, stats.of(material.index.ignore))])
    header = ["class", "pixels", "share of pixels", "", "images", "share of images"]
    about = facts(
        ("images", f"{stats.images:,}"),
        ("sizes (height x width)", said_sizes(stats)),
        ("channels", said_channels(stats)),
    )
    counts = table(header, rows, caption=f"Classes in {name}", sortable=True)
    return joined(tag("h3", "subset ", named(name)), about, counts, _seen_least(material, stats))


def _counted(stats: SubsetStats, counted: ClassStats) -> list[str]:
    share = counted.pixels / stats.pixels
    return [
        f"{counted.pixels:,}",
        f"{share:.2%}" if share >= 0.0001 or not share else "<0.01%",
        bar(share),
        f"{counted.images:,}",
        f"{counted.images / stats.images:.1%}",
    ]


def bar(share: float) -> Html:
    """Render a share as a bar."""
    # Hidden from screen readers: the number is in the next cell.
    length = round(100 * share, 1)
    whole = tag("rect", class_="room", width=100, height=8, rx=2)
    filled = tag("rect", class_="filled", width=length, height=8, rx=min(2, length / 2))
    return tag("svg", whole, filled, class_="bar", viewBox="0 0 100 8", aria_hidden="true")


def _seen_least(material: Material, stats: SubsetStats) -> Html:
    least = stats.seen_least(len(material.classes))
    if not least:
        return Html("")
    folder, items = stats.subset.image_folder, []
    for k in least:
        names = [stats.subset.image(e.position).relative_to(folder).as_posix() for e in stats.of(k).examples()[:NAMED]]
        items.append(tag("li", named(material.classes[k]), f": {', '.join(names)}"))
    return joined(tag("p", "Rarest classes, and the images with most of their pixels:"), tag("ul", *items))
