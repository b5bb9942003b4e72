"""The section on the dataset: sizes and channels of images, and the frequency of each class by subset."""

from __future__ import annotations

from segdsl.data.pictures.canvas import choose_colors
from segdsl.data.stats.describe import format_channels, format_sizes
from segdsl.data.stats.survey import ClassStats, SubsetStats
from segdsl.run.report.markup import Html, isolate_name, join_html, render_facts, render_table, tag
from segdsl.run.report.run_data import RunData
from segdsl.run.report.sections.images import render_swatch

MAX_EXAMPLES = 3
"""Number of example images listed for a rare class."""


def render_dataset(run: RunData) -> Html:
    """Render the counts of `segdsl data stats` for the subsets of the run."""
    if not run.stats or run.index is None:
        return tag("p", f"No statistics of the dataset: {run.missing}.", class_="missing")
    about = render_facts(("folder", str(run.index.root.resolve())), ("format", run.index.format))
    return join_html(about, *(_render_subset(run, name, stats) for name, stats in run.stats.items()))


def _render_subset(run: RunData, name: str, stats: SubsetStats) -> Html:
    assert run.index is not None
    colors = choose_colors(run.index.labels)
    rows: list[list[str]] = [
        [join_html(render_swatch(colors[k]), isolate_name(label)), *_format_counts(stats, stats.get_class(k))]
        for k, label in enumerate(run.classes)
    ]
    rows.append(["ignored", *_format_counts(stats, stats.get_class(run.index.ignore))])
    header = ["class", "pixels", "share of pixels", "", "images", "share of images"]
    about = render_facts(
        ("images", f"{stats.images:,}"),
        ("sizes (height x width)", format_sizes(stats)),
        ("channels", format_channels(stats)),
    )
    counts = render_table(header, rows, caption=f"Classes in {name}", sortable=True)
    return join_html(tag("h3", "subset ", isolate_name(name)), about, counts, _render_rare_classes(run, stats))


def _format_counts(stats: SubsetStats, class_stats: ClassStats) -> list[str]:
    share = class_stats.pixels / stats.pixels
    return [
        f"{class_stats.pixels:,}",
        f"{share:.2%}" if share >= 0.0001 or not share else "<0.01%",
        render_bar(share),
        f"{class_stats.images:,}",
        f"{class_stats.images / stats.images:.1%}",
    ]


def render_bar(share: float) -> Html:
    """Render a share as a bar."""
    # Hidden from screen readers: the number is in the next cell.
    length = round(100 * share, 1)
    whole = tag("rect", class_="room", width=100, height=8, rx=2)
    filled = tag("rect", class_="filled", width=length, height=8, rx=min(2, length / 2))
    return tag("svg", whole, filled, class_="bar", viewBox="0 0 100 8", aria_hidden="true")


def _render_rare_classes(run: RunData, stats: SubsetStats) -> Html:
    least = stats.list_rarest_classes(len(run.classes))
    if not least:
        return Html("")
    folder, items = stats.subset.image_folder, []
    for k in least:
        names = [
            stats.subset.get_image_path(e.position).relative_to(folder).as_posix()
            for e in stats.get_class(k).list_examples()[:MAX_EXAMPLES]
        ]
        items.append(tag("li", isolate_name(run.classes[k]), f": {', '.join(names)}"))
    return join_html(tag("p", "Rarest classes, and the images with most of their pixels:"), tag("ul", *items))
