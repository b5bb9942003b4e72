"""Commands on datasets: `demo-data`, `data check`, and the group of `data stats` and `data preview`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from segdsl.cli.commands.preview import data_preview
from segdsl.cli.commands.stats import data_stats
from segdsl.cli.dataset_options import counting, data_source, finding_entry, source_options
from segdsl.cli.result import AT_FAULT, DONE, Answer, json_option

if TYPE_CHECKING:
    from segdsl.data.check.checker import CheckReport

VOID = "(void)"


@click.group("data")
def data() -> None:
    """Inspect a dataset."""


data.add_command(data_stats)
data.add_command(data_preview)


@data.command("check")
@source_options
@json_option
def data_check(**source: Any) -> Answer:
    """Read a whole dataset and report every faulty file.

    ROOT is the folder of the dataset. Given a program FILE.seg instead, the dataset is read as its `data` section says.
    """
    from segdsl.data.check.checker import check_data

    found = data_source(**source)
    ignore = found.asked.void
    with counting() as progress:
        report = check_data(found.root, found.format, found.asked, progress)
    # These findings compare the program with the statistics of its data, which are incomplete after an error.
    if found.program is not None and not report.errors:
        from segdsl.data.loading.program_findings import doubts, unseen_monitor

        report.add([*unseen_monitor(found.program, report), *doubts(found.program, report)])
    answer = {
        "format": report.format,
        "items": report.items,
        "errors": [finding_entry(d) for d in report.errors],
        "warnings": [finding_entry(d) for d in report.warnings],
        "classes": list(report.classes),
        "subsets": report.subsets,
        "pixels": _pixels(report, ignore),
    }
    status = AT_FAULT if report.errors else DONE
    return Answer(answer, "" if report.errors else _described(answer), status, (*report.errors, *report.warnings))


def _pixels(report: CheckReport, ignore: int) -> dict[str, dict[str, int]]:
    """Return the number of pixels of each class and of ignored pixels, by subset."""
    return {
        subset: {**{name: int(counts[i]) for i, name in enumerate(report.classes)}, VOID: int(counts[ignore])}
        for subset, counts in report.pixels.items()
    }


def _described(answer: dict[str, Any]) -> str:
    """Format the sizes of the subsets and the pixel share of each class."""
    subsets = answer["pixels"]
    width = max(map(len, [*answer["classes"], VOID, "images"]))
    lines = [
        " " * width + "".join(f"{name:>10}" for name in subsets),
        f"{'images':{width}}" + "".join(f"{answer['subsets'][name]:>10}" for name in subsets),
    ]
    for name in [*answer["classes"], VOID]:
        # A subset without pixels has a share of 0 in every class rather than a division by zero.
        shares = (100 * counts[name] / max(sum(counts.values()), 1) for counts in subsets.values())
        lines.append(f"{name:{width}}" + "".join(f"{share:>8.2f} %" for share in shares))
    warnings = len(answer["warnings"])
    verdict = f"usable, {warnings} warning{'s' * (warnings > 1)}" if warnings else "no problems found"
    return "\n".join([*lines, f"{answer['format']}, {answer['items']} items: {verdict}"])


@click.command("demo-data")
@click.argument("out", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the generated images.")
@json_option
def demo_data(out: Path, seed: int) -> Answer:
    """Generate a small dataset to experiment with.

    Textured surfaces with three kinds of defects and some ignored pixels, in the Common Semantic Segmentation format.
    """
    from dataclasses import asdict

    from segdsl.cli.tables import facts_table
    from segdsl.data.demo.generate import write_demo

    facts = {k: str(v) if k == "out" else v for k, v in asdict(write_demo(out, seed=seed)).items()}
    return Answer(facts, facts_table(facts))


COMMANDS = {"data": data, "demo-data": demo_data}
