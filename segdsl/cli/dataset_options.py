"""Options that name a dataset: a folder plus options that describe it, or a program that describes it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from segdsl.cli.result import set_option

if TYPE_CHECKING:
    from segdsl.data.check.checker import ProgressCallback
    from segdsl.data.formats.layout import Request
    from segdsl.diagnostics import Diagnostic
    from segdsl.ir.program import Program

DEFAULT_FORMAT, DEFAULT_IGNORE = "auto", 255
_DATASET_OPTIONS = (
    click.argument("source", metavar="ROOT|FILE.seg"),
    click.option(
        "--format",
        "form",
        default=DEFAULT_FORMAT,
        show_default=True,
        metavar="F",
        help="Format of the dataset; auto detects it.",
    ),
    click.option(
        "--ignore",
        type=click.IntRange(0, 255),
        default=DEFAULT_IGNORE,
        show_default=True,
        help="Mask value of ignored pixels.",
    ),
    click.option(
        "--subset", "subsets", multiple=True, metavar="S", help="Subset to read (repeatable); all if omitted."
    ),
    click.option(
        "--class",
        "classes",
        multiple=True,
        metavar="NAME",
        help="Class name, in order of class ids (repeatable); for folders.",
    ),
    click.option("--background", metavar="NAME", help="Class of pixels without annotation; void ignores them."),
    click.option("--data", "root", metavar="ROOT", help="With FILE.seg: dataset folder, instead of data.root."),
    set_option,
)


class DataSource(NamedTuple):
    """A dataset folder, its format, what to read of it, and the program that describes it, if any."""

    root: Path
    format: str
    request: Request
    program: Program | None = None


def add_dataset_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the argument and options that name a dataset; the command passes them to :func:`resolve_data_source`."""
    # Decorators apply from the bottom up, and `--help` lists options in the order of their application.
    for option in reversed(_DATASET_OPTIONS):
        command = option(command)
    return command


@dataclass(frozen=True, slots=True)
class DatasetOptions:
    """What a command line says about a dataset: the argument and the options of :data:`_DATASET_OPTIONS`."""

    source: str
    form: str = DEFAULT_FORMAT
    ignore: int = DEFAULT_IGNORE
    subsets: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    background: str | None = None
    root: str | None = None
    overrides: tuple[str, ...] = ()

    @property
    def describes_data(self) -> bool:
        """Whether an option is given that a program has too."""
        is_default = self.form == DEFAULT_FORMAT and self.ignore == DEFAULT_IGNORE
        return bool(self.classes or self.background) or not is_default


def resolve_data_source(**options: Any) -> DataSource:
    """Resolve the dataset that a command line names by :class:`DatasetOptions`.

    Raises SegError where the program does not load, and UsageError for options that cannot be combined.
    """
    from segdsl.data.decode.images import ReadOptions
    from segdsl.data.formats.layout import Request

    asked = DatasetOptions(**options)
    if not asked.source.endswith(".seg"):
        if asked.root is not None or asked.overrides:
            raise click.UsageError("--data and --set need a program: segdsl data check FILE.seg --data ROOT.")
        reading = ReadOptions(None)
        request = Request(
            asked.subsets or None, asked.ignore, asked.classes or None, asked.background, read_options=reading
        )
        return DataSource(Path(asked.source), asked.form, request)
    # Options that a program also has would compete with it; `--set` is the one way to override a program.
    if asked.describes_data:
        raise click.UsageError("With a program, use --set to change format, classes, background or ignore value.")
    return _resolve_program_data(asked.source, asked.root, asked.overrides, asked.subsets)


def _resolve_program_data(
    file: str, root: str | None, overrides: tuple[str, ...], subsets: tuple[str, ...]
) -> DataSource:
    from segdsl.data.formats.layout import Request
    from segdsl.run.program_data import get_data_root, resolve_classes

    program = resolve_classes(file, overrides, root)
    data = program.data
    # One subset may serve for both training and validation; it is read once.
    names = subsets or tuple(dict.fromkeys((data.train.subset, data.val.subset)))
    return DataSource(get_data_root(program, root), data.format, Request.from_program(program, names), program)


def finding_to_dict(diagnostic: Diagnostic) -> dict[str, str | None]:
    """Return a finding as the JSON object that the dataset commands print."""
    return {
        "file": diagnostic.path,
        "slug": diagnostic.slug,
        "message": diagnostic.message,
        "help": diagnostic.help,
    }


@contextmanager
def show_file_progress() -> Iterator[ProgressCallback | None]:
    """Yield a callback that shows a transient progress bar of files read; None if stderr is not a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("reading images and masks"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
