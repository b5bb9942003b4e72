"""Where commands on data sets take them from: a folder and options that describe it, or a program that does."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from segdsl.cli.result import set_option

if TYPE_CHECKING:
    from segdsl.data.check.checker import Progress
    from segdsl.data.formats.layout import Request
    from segdsl.diagnostics import Diagnostic
    from segdsl.ir.program import Program

FORMAT, IGNORE = "auto", 255
_OPTIONS = (
    click.argument("source", metavar="ROOT|FILE.seg"),
    click.option("--format", "form", default=FORMAT, show_default=True, metavar="F", help="Its layout; auto looks."),
    click.option("--ignore", type=click.IntRange(0, 255), default=IGNORE, show_default=True, help="Value of void."),
    click.option("--subset", "subsets", multiple=True, metavar="S", help="Subset to read; any number, by default all."),
    click.option(
        "--class", "classes", multiple=True, metavar="NAME", help="A class, in the order of ids; for folders."
    ),
    click.option("--background", metavar="NAME", help="Class of what no annotation covers; void for none."),
    click.option("--data", "root", metavar="ROOT", help="With FILE.seg: the folder, in place of data.root."),
    set_option,
)


class DataSource(NamedTuple):
    """A folder, its format, and what is asked of it; the program that says so, if one does."""

    root: Path
    format: str
    asked: Request
    program: Program | None = None


def source_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The argument and the options of a command on a data set; they are passed on to :func:`data_source`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def data_source(
    source: str,
    form: str = FORMAT,
    ignore: int = IGNORE,
    subsets: tuple[str, ...] = (),
    classes: tuple[str, ...] = (),
    background: str | None = None,
    root: str | None = None,
    overrides: tuple[str, ...] = (),
) -> DataSource:
    """The data set that a command line means. Raises SegError as loading does, UsageError where options do not go
    together."""
    from segdsl.data.decode.images import Reading
    from segdsl.data.formats.layout import Request

    if not source.endswith(".seg"):
        if root is not None or overrides:
            raise click.UsageError("--data and --set go with a program: segdsl data check FILE.seg --data ROOT")
        asked = Request(subsets or None, ignore, classes or None, background, reading=Reading(None))
        return DataSource(Path(source), form, asked)
    if classes or background or form != FORMAT or ignore != IGNORE:
        raise click.UsageError("a program says format, classes and void itself; change them with --set")
    return _of_program(source, root, overrides, subsets)


def _of_program(file: str, root: str | None, overrides: tuple[str, ...], subsets: tuple[str, ...]) -> DataSource:
    from segdsl.data.formats.layout import Request
    from segdsl.run.program_data import data_root, resolve_classes

    program = resolve_classes(file, overrides, root)
    data = program.data
    wanted = subsets or tuple(dict.fromkeys((data.train.subset, data.val.subset)))
    return DataSource(data_root(program, root), data.format, Request.of(program, wanted), program)


def finding_entry(diagnostic: Diagnostic) -> dict[str, str | None]:
    """A finding as the JSON objects of these commands have it."""
    return {
        "file": diagnostic.path,
        "slug": diagnostic.slug,
        "message": diagnostic.message,
        "help": diagnostic.help,
    }


@contextmanager
def counting() -> Iterator[Progress | None]:
    """A callback that counts files on a terminal, on one line that is gone at the end; None where stderr is none."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("reading images and masks"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
