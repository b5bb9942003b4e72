"""Commands on datasets: `demo-data`, `data check`, and the group of `data stats` and `data preview`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from segdsl.cli.commands.preview import data_preview_command
from segdsl.cli.commands.stats import data_stats_command
from segdsl.cli.dataset_options import add_dataset_options, finding_to_dict, resolve_data_source, show_file_progress
from segdsl.cli.result import EXIT_ERROR, EXIT_OK, CommandResult, json_option
from segdsl.text.plural import format_count

if TYPE_CHECKING:
    from segdsl.data.check.checker import CheckReport

VOID = "(void)"


@click.group("data")
def data_group() -> None:
    """Inspect a dataset."""


data_group.add_command(data_stats_command)
data_group.add_command(data_preview_command)


@data_group.command("check")
@add_dataset_options
@json_option
def data_check_command(**source: Any) -> CommandResult:
    """Read a whole dataset and report every faulty file.

    ROOT is the folder of the dataset. Given a program FILE.seg instead, the dataset is read as its `data` section says.
    """
    from segdsl.data.check.checker import check_data

    found = resolve_data_source(**source)
    ignore = found.request.void_id
    with show_file_progress() as progress:
        report = check_data(found.root, found.format, found.request, progress)
    # These findings compare the program with the statistics of its data, which are incomplete after an error.
    if found.program is not None and not report.errors:
        from segdsl.data.loading.program_findings import check_monitor_class_present, find_program_issues

        report.add_findings(
            [*check_monitor_class_present(found.program, report), *find_program_issues(found.program, report)]
        )
    answer = {
        "format": report.format,
        "items": report.items,
        "errors": [finding_to_dict(d) for d in report.errors],
        "warnings": [finding_to_dict(d) for d in report.warnings],
        "classes": list(report.classes),
        "subsets": report.subsets,
        "pixels": _count_pixels(report, ignore),
    }
    status = EXIT_ERROR if report.errors else EXIT_OK
    return CommandResult(
        answer, "" if report.errors else _format_check_report(answer), status, (*report.errors, *report.warnings)
    )


def _count_pixels(report: CheckReport, ignore: int) -> dict[str, dict[str, int]]:
    """Return the number of pixels of each class and of ignored pixels, by subset."""
    return {
        subset: {**{name: int(counts[i]) for i, name in enumerate(report.classes)}, VOID: int(counts[ignore])}
        for subset, counts in report.pixels.items()
    }


def _format_check_report(facts: dict[str, Any]) -> str:
    """Format the sizes of the subsets and the pixel share of each class."""
    subsets = facts["pixels"]
    width = max(map(len, [*facts["classes"], VOID, "images"]))
    lines = [
        " " * width + "".join(f"{name:>10}" for name in subsets),
        f"{'images':{width}}" + "".join(f"{facts['subsets'][name]:>10}" for name in subsets),
    ]
    for name in [*facts["classes"], VOID]:
        # A subset without pixels has a share of 0 in every class rather than a division by zero.
        shares = (100 * counts[name] / max(sum(counts.values()), 1) for counts in subsets.values())
        lines.append(f"{name:{width}}" + "".join(f"{share:>8.2f} %" for share in shares))
    warnings = len(facts["warnings"])
    verdict = f"usable, {format_count(warnings, 'warning')}" if warnings else "no problems found"
    return "\n".join([*lines, f"{facts['format']}, {facts['items']} items: {verdict}"])


@click.command("demo-data")
@click.argument("out", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the generated images.")
@json_option
def demo_data_command(out: Path, seed: int) -> CommandResult:
    """Generate a small dataset to experiment with.

    Textured surfaces with three kinds of defects and some ignored pixels, in the Common Semantic Segmentation format.
    """
    from dataclasses import asdict

    from segdsl.cli.tables import format_facts
    from segdsl.data.demo.generate import write_demo_dataset

    facts = {k: str(v) if k == "out" else v for k, v in asdict(write_demo_dataset(out, seed=seed)).items()}
    return CommandResult(facts, format_facts(facts))


COMMANDS = {"data": data_group, "demo-data": demo_data_command}
