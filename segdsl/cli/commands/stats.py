"""The command `data stats`: statistics of a dataset as text, as JSON and as a page."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from segdsl.cli.dataset_options import add_dataset_options, finding_to_dict, resolve_data_source, show_file_progress
from segdsl.cli.result import EXIT_ERROR, EXIT_OK, CommandResult, json_option
from segdsl.text.columns import measure_width, truncate_middle
from segdsl.text.plural import format_count

if TYPE_CHECKING:
    from segdsl.data.stats.survey import ClassStats, Spread, SubsetStats, Survey

VOID = "(void)"
COLUMNS = 80
MAX_NAME_WIDTH = 40
"""Maximum columns of a class name in the table."""
MAX_EXAMPLES = 3
"""Example images listed for a rare class; the JSON lists all that the survey stored."""


@click.command("stats")
@add_dataset_options
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE.html",
    help="Write a page with images of every class; with .png, a plain grid of the images.",
)
@json_option
def data_stats_command(out: Path | None, **source: Any) -> CommandResult:
    """Print statistics of a dataset.

    Sizes and channels of the images, and the share of each class in pixels and in images.
    """
    from segdsl.data.stats.survey import survey_dataset

    dataset = resolve_data_source(**source)
    # An output file that cannot be written is reported now, not after minutes of reading.
    if out is not None:
        from segdsl.data.pictures.output import require_sheet_target

        require_sheet_target(out, dataset.root)
    with show_file_progress() as progress:
        found = survey_dataset(dataset.root, dataset.format, dataset.request, progress)
    report = found.report
    findings = (*report.errors, *report.warnings)
    if report.errors:
        failure = {
            "errors": [finding_to_dict(d) for d in report.errors],
            "warnings": [finding_to_dict(d) for d in report.warnings],
        }
        return CommandResult(failure, status=EXIT_ERROR, findings=findings)
    data = collect_stats_facts(found, out)
    if out is not None:
        from segdsl.data.pictures.contact_sheet import write_contact_sheet

        write_contact_sheet(found, out)
    return CommandResult(data, format_stats(found, out), EXIT_OK, findings)


def collect_stats_facts(survey: Survey, out: Path | None) -> dict[str, Any]:
    """Return the JSON object of a survey. Shares are from 0 to 1; sizes and spreads are in pixels."""
    return {
        "root": str(survey.report.root),
        "format": survey.report.format,
        "images": survey.report.items,
        "classes": list(survey.classes),
        "ignore": survey.ignore,
        "subsets": {name: _collect_subset_facts(survey, stats) for name, stats in survey.subsets.items()},
        "sheet": None if out is None else str(out),
        "warnings": [finding_to_dict(d) for d in survey.report.warnings],
    }


def _collect_subset_facts(survey: Survey, stats: SubsetStats) -> dict[str, Any]:
    least = stats.list_rarest_classes(len(survey.classes))
    return {
        "images": stats.images,
        "pixels": stats.pixels,
        "sizes": [{"height": h, "width": w, "images": n} for (h, w), n in stats.sizes.most_common()],
        "height": _collect_spread_facts(stats.compute_heights()),
        "width": _collect_spread_facts(stats.compute_widths()),
        "aspect": _collect_spread_facts(stats.compute_aspects()),
        "modes": dict(stats.modes.most_common()),
        "classes": {name: _collect_class_facts(stats, stats.get_class(k)) for k, name in enumerate(survey.classes)},
        "void": _collect_class_facts(stats, stats.get_class(survey.ignore)),
        "seen_least": [survey.classes[k] for k in least],
    }


def _collect_spread_facts(spread: Spread) -> dict[str, float]:
    return {"min": spread.minimum, "median": spread.median, "max": spread.maximum}


def _collect_class_facts(stats: SubsetStats, class_stats: ClassStats) -> dict[str, Any]:
    return {
        "pixels": class_stats.pixels,
        "share": class_stats.pixels / stats.pixels,
        "images": class_stats.images,
        "image_share": class_stats.images / stats.images,
        "examples": [stats.get_image_name(e.position) for e in class_stats.list_examples()],
    }


def format_stats(survey: Survey, out: Path | None) -> str:
    """Format the statistics as text, within 80 columns unless a single file name is longer."""
    count = len(survey.classes)
    head = f"{survey.report.format}: {survey.report.items:,} images, {count} class{'es' if count != 1 else ''}"
    blocks = ["\n".join(_format_subset(survey, name, stats)) for name, stats in survey.subsets.items()]
    tail = [f"written to {out}"] if out is not None else []
    return "\n\n".join([head, *blocks, *tail])


def _format_subset(survey: Survey, name: str, stats: SubsetStats) -> Iterator[str]:
    from segdsl.data.stats.describe import format_channels, format_sizes

    yield f"{name}: {format_count(stats.images, 'image')}"
    yield from _wrap_labeled("sizes (height x width)", format_sizes(stats))
    yield from _wrap_labeled("channels              ", format_channels(stats))
    yield ""
    names = [truncate_middle(n, MAX_NAME_WIDTH) for n in [*survey.classes, VOID]]
    width = max(map(measure_width, names))
    yield f"  {'':{width}}    pixels            images"
    for value, label in zip([*range(len(survey.classes)), survey.ignore], names, strict=True):
        yield f"  {_pad_text(label, width)}  {_format_counts(stats, stats.get_class(value))}"
    least = stats.list_rarest_classes(len(survey.classes))
    if least:
        yield ""
        yield "  rarest classes, and images that show them best"
        width = max(measure_width(names[k]) for k in least)
        for k in least:
            yield from _format_examples(stats, stats.get_class(k), _pad_text(names[k], width))


def _pad_text(text: str, width: int) -> str:
    return text + " " * (width - measure_width(text))


def _format_counts(stats: SubsetStats, class_stats: ClassStats) -> str:
    pixels, images = 100 * class_stats.pixels / stats.pixels, 100 * class_stats.images / stats.images
    # A class that exists must not print as 0.00 %.
    is_tiny = 0 < pixels < 0.005
    return f"{'<0.01' if is_tiny else f'{pixels:.2f}':>6} %  {images:5.1f} %  {class_stats.images:>7,}"


def _wrap_labeled(label: str, text: str) -> list[str]:
    lines = textwrap.wrap(text, COLUMNS, initial_indent=f"  {label}  ", subsequent_indent=" " * (len(label) + 4))
    # No-break spaces kept numbers and their units on one line; a terminal should not receive them.
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in lines]


def _format_examples(stats: SubsetStats, class_stats: ClassStats, label: str) -> list[str]:
    """Return a line with a class and as many example images as fit on it."""
    room = COLUMNS - measure_width(label) - 4
    names = [
        truncate_middle(stats.get_image_name(e.position), COLUMNS // 2)
        for e in class_stats.list_examples()[:MAX_EXAMPLES]
    ]
    while True:
        more = class_stats.images - len(names)
        rest = f" and {more:,} more" if more else ""
        if len(names) == 1:
            names = [truncate_middle(names[0], room - len(rest))]
        text = ", ".join(names) + rest
        if len(names) == 1 or measure_width(text) <= room:
            return [f"  {label}  {text}"]
        names.pop()
