"""The command `data stats`: statistics of a dataset as text, as JSON and as a contact sheet."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from segdsl.cli.dataset_options import counting, data_source, finding_entry, source_options
from segdsl.cli.result import AT_FAULT, DONE, Answer, json_option
from segdsl.diagnostics.render import cells

if TYPE_CHECKING:
    from segdsl.data.stats.survey import ClassStats, Spread, SubsetStats, Survey

VOID = "(void)"
COLUMNS = 80
LONGEST_NAME = 40
"""Maximum columns of a class name in the table."""
SHOWN = 3
"""Example images listed for a rare class; the JSON lists all that the survey stored."""


@click.command("stats")
@source_options
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE.png", help="Draw example images of every class.")
@json_option
def data_stats(out: Path | None, **source: Any) -> Answer:
    """Print statistics of a dataset.

    Sizes and channels of the images, and the share of each class in pixels and in images.
    """
    from segdsl.data.stats.survey import survey

    dataset = data_source(**source)
    # An output file that cannot be written is reported now, not after minutes of reading.
    if out is not None:
        from segdsl.data.pictures.canvas import require_target

        require_target(out, dataset.root)
    with counting() as progress:
        found = survey(dataset.root, dataset.format, dataset.asked, progress)
    report = found.report
    findings = (*report.errors, *report.warnings)
    if report.errors:
        failure = {
            "errors": [finding_entry(d) for d in report.errors],
            "warnings": [finding_entry(d) for d in report.warnings],
        }
        return Answer(failure, status=AT_FAULT, findings=findings)
    data = facts_of(found, out)
    if out is not None:
        from segdsl.data.pictures.contact_sheet import write_sheet

        write_sheet(found, out)
    return Answer(data, described(found, out), DONE, findings)


def facts_of(found: Survey, out: Path | None) -> dict[str, Any]:
    """Return the JSON object of a survey. Shares are from 0 to 1; sizes and spreads are in pixels."""
    return {
        "root": str(found.report.root),
        "format": found.report.format,
        "images": found.report.items,
        "classes": list(found.classes),
        "ignore": found.ignore,
        "subsets": {name: _subset_facts(found, stats) for name, stats in found.subsets.items()},
        "sheet": None if out is None else str(out),
        "warnings": [finding_entry(d) for d in found.report.warnings],
    }


def _subset_facts(found: Survey, stats: SubsetStats) -> dict[str, Any]:
    least = stats.seen_least(len(found.classes))
    return {
        "images": stats.images,
        "pixels": stats.pixels,
        "sizes": [{"height": h, "width": w, "images": n} for (h, w), n in stats.sizes.most_common()],
        "height": _spread_facts(stats.heights()),
        "width": _spread_facts(stats.widths()),
        "aspect": _spread_facts(stats.aspects()),
        "modes": dict(stats.modes.most_common()),
        "classes": {name: _class_facts(stats, stats.of(k)) for k, name in enumerate(found.classes)},
        "void": _class_facts(stats, stats.of(found.ignore)),
        "seen_least": [found.classes[k] for k in least],
    }


def _spread_facts(spread: Spread) -> dict[str, float]:
    return {"min": spread.least, "median": spread.median, "max": spread.greatest}


def _class_facts(stats: SubsetStats, counted: ClassStats) -> dict[str, Any]:
    return {
        "pixels": counted.pixels,
        "share": counted.pixels / stats.pixels,
        "images": counted.images,
        "image_share": counted.images / stats.images,
        "examples": [_name(stats, e.position) for e in counted.examples()],
    }


def _name(stats: SubsetStats, position: int) -> str:
    return stats.subset.image(position).relative_to(stats.subset.image_folder).as_posix()


def described(found: Survey, out: Path | None) -> str:
    """Format the statistics as text, within 80 columns unless a single file name is longer."""
    count = len(found.classes)
    head = f"{found.report.format}: {found.report.items:,} images, {count} class{'es' if count != 1 else ''}"
    blocks = ["\n".join(_subset_lines(found, name, stats)) for name, stats in found.subsets.items()]
    tail = [f"written to {out}"] if out is not None else []
    return "\n\n".join([head, *blocks, *tail])


def _subset_lines(found: Survey, name: str, stats: SubsetStats) -> Iterator[str]:
    from segdsl.data.stats.describe import said_channels, said_sizes

    yield f"{name}: {stats.images:,} image{'s' if stats.images != 1 else ''}"
    yield from _wrapped("sizes (height x width)", said_sizes(stats))
    yield from _wrapped("channels              ", said_channels(stats))
    yield ""
    names = [_cut(n, LONGEST_NAME) for n in [*found.classes, VOID]]
    width = max(map(_columns, names))
    yield f"  {'':{width}}    pixels            images"
    for value, label in zip([*range(len(found.classes)), found.ignore], names, strict=True):
        yield f"  {_padded(label, width)}  {_counted(stats, stats.of(value))}"
    least = stats.seen_least(len(found.classes))
    if least:
        yield ""
        yield "  rarest classes, and images that show them best"
        width = max(_columns(names[k]) for k in least)
        for k in least:
            yield from _places(stats, stats.of(k), _padded(names[k], width))


def _columns(text: str) -> int:
    return sum(map(cells, text))


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _columns(text))


def _counted(stats: SubsetStats, counted: ClassStats) -> str:
    pixels, images = 100 * counted.pixels / stats.pixels, 100 * counted.images / stats.images
    # A class that exists must not print as 0.00 %.
    is_tiny = 0 < pixels < 0.005
    return f"{'<0.01' if is_tiny else f'{pixels:.2f}':>6} %  {images:5.1f} %  {counted.images:>7,}"


def _wrapped(label: str, text: str) -> list[str]:
    lines = textwrap.wrap(text, COLUMNS, initial_indent=f"  {label}  ", subsequent_indent=" " * (len(label) + 4))
    # No-break spaces kept numbers and their units on one line; a terminal should not receive them.
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in lines]


def _places(stats: SubsetStats, counted: ClassStats, label: str) -> list[str]:
    """Return a line with a class and as many example images as fit on it."""
    room = COLUMNS - _columns(label) - 4
    names = [_cut(_name(stats, e.position), COLUMNS // 2) for e in counted.examples()[:SHOWN]]
    while True:
        more = counted.images - len(names)
        rest = f" and {more:,} more" if more else ""
        if len(names) == 1:
            names = [_cut(names[0], room - len(rest))]
        text = ", ".join(names) + rest
        if len(names) == 1 or _columns(text) <= room:
            return [f"  {label}  {text}"]
        names.pop()


def _cut(text: str, width: int) -> str:
    """Truncate a text in the middle to at most ``width`` columns."""
    text = whole = " ".join(text.split())
    # In the middle, because file names differ at their ends. One character at a time, since some take two columns.
    length = len(whole)
    while _columns(text) > width and length:
        length -= 1
        text = f"{whole[: length // 2]}…{whole[len(whole) - (length - length // 2) :]}"
    return text
