"""The command `new`: write a program that fits a dataset."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from segdsl.cli.commands.stats import COLUMNS
from segdsl.cli.dataset_options import LABEL_OPTIONS, finding_to_dict, show_file_progress, split_label_options
from segdsl.cli.result import EXIT_OK, CommandResult, json_option

if TYPE_CHECKING:
    from segdsl.recipe.create import ProgramResult

# Written out here because `--help` must not import the modules that define them.
MODELS = ("LiteHRNetS", "LiteHRNet18", "LiteHRNetX", "SegNeXtT", "SegNeXtS", "SegNeXtB")
"""Models of the library that `--model` accepts."""
SUMMARY_PATHS = {
    "model": "model",
    "input": "data.input_size",
    "batch": "data.train.batch",
    "loss": "train.loss",
    "augment": "data.train.augment.crop",
    "epochs": "train.epochs",
}
"""Labels of the choices that are printed, with their paths; the program documents all choices."""


def _add_label_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(LABEL_OPTIONS):
        command = option(command)
    return command


@click.command("new")
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE.seg")
@click.option("--data", "root", type=click.Path(path_type=Path), required=True, metavar="ROOT", help="Dataset folder.")
@_add_label_options
@click.option(
    "--subset", "subsets", multiple=True, metavar="S", help="Give twice: training subset, then validation subset."
)
@click.option("--model", type=click.Choice(MODELS), help="Model, instead of the one chosen for the data.")
@json_option
def new_command(file: Path, root: Path, subsets: tuple[str, ...], model: str | None, **options: Any) -> CommandResult:
    """Write a program that fits a dataset.

    Reads the data, chooses model and settings, and explains each choice in a comment.
    """
    from segdsl.recipe.create import ProgramRequest, create_program

    asked = split_label_options(options)
    request = ProgramRequest(
        root, asked.format, asked.ignore, asked.names, asked.background, subsets, model, asked.values, asked.images,
        asked.masks,
    )  # fmt: skip
    if len(subsets) not in (0, 2):
        raise click.UsageError(
            "Give --subset twice (first the training subset, then the validation subset) or not at all."
        )
    with show_file_progress() as progress:
        result = create_program(file, request, progress=progress)
    next_command = shlex.join(["segdsl", "train", str(file)])
    data = {
        "file": str(file),
        "choices": {path: {"value": c.value, "reason": c.reason} for path, c in result.program.choices.items()},
        "next": next_command,
        "warnings": [finding_to_dict(d) for d in result.warnings],
    }
    return CommandResult(data, _format_choices(result, next_command), EXIT_OK, result.warnings)


def _format_choices(result: ProgramResult, next_command: str) -> str:
    lines = [f"wrote {result.file}; main choices and their reasons:", ""]
    for label, path in SUMMARY_PATHS.items():
        choice = result.program.choices[path]
        text = f"{choice.value}; {choice.reason}"
        lines += textwrap.wrap(text, COLUMNS, initial_indent=f"  {label:9}", subsequent_indent=" " * 11)
    return "\n".join([*lines, "", f"next: {next_command}"])


COMMANDS = {"new": new_command}
