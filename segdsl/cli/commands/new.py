"""The command `new`: a program that fits a data set."""

from __future__ import annotations

import shlex
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import click

from segdsl.cli.commands.stats import COLUMNS
from segdsl.cli.dataset_options import FORMAT, IGNORE, counting, finding_entry
from segdsl.cli.result import DONE, Answer, json_option

if TYPE_CHECKING:
    from segdsl.recipe.create import Created

MODELS = ("LiteHRNetS", "LiteHRNet18", "LiteHRNetX", "SegNeXtT", "SegNeXtS", "SegNeXtB")
"""Of the library; written out, since a list of options is printed without the modules that know them."""
TOLD = {
    "model": "model",
    "input": "data.input_size",
    "batch": "data.train.batch",
    "loss": "train.loss",
    "augment": "data.train.augment.crop",
    "epochs": "train.epochs",
}
"""The choices that are told of, by the path in the program, which has them all."""


@click.command()
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE.seg")
@click.option("--data", "root", required=True, metavar="ROOT", help="Folder of the data set.")
@click.option("--format", "form", default=FORMAT, show_default=True, metavar="F", help="Its layout; auto looks.")
@click.option("--ignore", type=click.IntRange(0, 255), default=IGNORE, show_default=True, help="Value of void.")
@click.option("--class", "classes", multiple=True, metavar="NAME", help="A class, in the order of ids; for folders.")
@click.option("--background", metavar="NAME", help="Class of what no annotation covers; void for none.")
@click.option(
    "--subset", "subsets", multiple=True, metavar="S", help="Given twice: one to learn from, one to score on."
)
@click.option("--model", type=click.Choice(MODELS), help="In place of the model that the data asks for.")
@json_option
def new(
    file: Path,
    root: str,
    form: str,
    ignore: int,
    classes: tuple[str, ...],
    background: str | None,
    subsets: tuple[str, ...],
    model: str | None,
) -> Answer:
    """Write a program that fits a data set.

    Reads the data, chooses, and says in the program why.
    """
    from segdsl.recipe.create import Wanted, create

    if len(subsets) not in (0, 2):
        raise click.UsageError("--subset is given twice, or not at all: one to learn from, then one to score on.")
    wanted = Wanted(Path(root), form, ignore, classes, background, subsets, model)
    with counting() as progress:
        made = create(file, wanted, progress=progress)
    following = shlex.join(["segdsl", "train", str(file)])
    data = {
        "file": str(file),
        "choices": {path: {"value": c.value, "reason": c.reason} for path, c in made.recipe.choices.items()},
        "next": following,
        "warnings": [finding_entry(d) for d in made.warnings],
    }
    return Answer(data, _described(made, following), DONE, made.warnings)


def _described(made: Created, following: str) -> str:
    lines = [f"{made.file} is written: every choice, and the reason for it", ""]
    for label, path in TOLD.items():
        choice = made.recipe.choices[path]
        text = f"{choice.value}; {choice.reason}"
        lines += textwrap.wrap(text, COLUMNS, initial_indent=f"  {label:9}", subsequent_indent=" " * 11)
    return "\n".join([*lines, "", f"next: {following}"])


COMMANDS = {"new": new}
