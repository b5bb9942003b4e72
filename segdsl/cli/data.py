"""Commands on data sets: `data check` and `demo-data`."""

from __future__ import annotations

from pathlib import Path

import click

from segdsl.cli.answer import AT_FAULT, DONE, Answer, json_option
from segdsl.diagnostics import Diagnostic

FORMAT = "common_semantic_segmentation"


@click.group()
def data() -> None:
    """Look at a data set."""


@data.command("check")
@click.argument("root")
@click.option("--format", "form", default=FORMAT, show_default=True, metavar="F", help="Its layout.")
@click.option("--ignore", type=click.IntRange(0, 255), default=255, show_default=True, help="Mask value that is void.")
@click.option("--subset", "subsets", multiple=True, metavar="S", help="Subset to look at; by default train and val.")
@json_option
def data_check(root: str, form: str, ignore: int, subsets: tuple[str, ...]) -> Answer:
    """Read all of a data set and name each file at fault."""
    from segdsl.data.check import check_data

    report = check_data(Path(root), form, ignore, subsets or ("train", "val"))
    answer = {
        "items": report.items,
        "errors": [_entry(d) for d in report.errors],
        "warnings": [_entry(d) for d in report.warnings],
    }
    text = f"{report.items} items: " + (f"{len(report.errors)} at fault" if report.errors else "all good")
    return Answer(answer, text, AT_FAULT if report.errors else DONE, (*report.errors, *report.warnings))


def _entry(diagnostic: Diagnostic) -> dict[str, str | None]:
    return {
        "file": diagnostic.path,
        "slug": diagnostic.slug,
        "message": diagnostic.message,
        "help": diagnostic.help,
    }


@click.command("demo-data")
@click.argument("out", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Another seed, other images.")
@json_option
def demo_data(out: Path, seed: int) -> Answer:
    """Generate a small data set to try things on.

    Textured surfaces with three kinds of defects, and void, in the Common Semantic Segmentation layout.
    """
    from dataclasses import asdict

    from segdsl.cli.tables import facts_table
    from segdsl.data.demo import write_demo

    facts = asdict(write_demo(out, seed=seed))
    return Answer(facts, facts_table(facts))


COMMANDS = {"data": data, "demo-data": demo_data}
