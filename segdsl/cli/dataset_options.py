"""Options that name a dataset: a folder plus options that describe it, or a program that describes it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from segdsl.cli.result import set_option

if TYPE_CHECKING:
    from segdsl.data.check.checker import ProgressCallback
    from segdsl.data.formats.layout import Request
    from segdsl.diagnostics import Diagnostic
    from segdsl.ir.program import Program
    from segdsl.ir.values import Range

DEFAULT_FORMAT, DEFAULT_IGNORE = "auto", 255
DEFAULT_IMAGES, DEFAULT_MASKS = "images", "masks"


def _parse_place(context: click.Context, parameter: click.Parameter, value: str) -> str:
    from segdsl.ir.file_pattern import parse_file_pattern

    try:
        parse_file_pattern(value, ".")
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    return value


def _parse_values(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[Range, ...] | None:
    if value is None:
        return None
    from segdsl.ir.values import Range

    parts = [part.strip().partition("..") for part in value.split(",")]
    ends = [(low, high if dots else low) for low, dots, high in parts]
    if not all(low.isascii() and high.isascii() and low.isdecimal() and high.isdecimal() for low, high in ends):
        raise click.BadParameter("write numbers from 0 to 255, or ranges of them: 0,255 or 0..127,128..255")
    ranges = tuple(Range(int(low[:4]), int(high[:4])) for low, high in ends)
    if not all(entry.low <= entry.high <= 255 for entry in ranges):
        raise click.BadParameter("the numbers must be from 0 to 255, and ranges must rise")
    return ranges


LABEL_OPTIONS = (
    click.option(
        "--format",
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
        "--class",
        "classes",
        multiple=True,
        metavar="NAME",
        help="Class name, in order of class ids (repeatable); for folders.",
    ),
    click.option("--classes", "class_list", metavar="A,B,…", help="All class names, in order of class ids."),
    click.option(
        "--values",
        callback=_parse_values,
        metavar="V,V,…",
        help="Mask value of each class, or its range of values: 0,255.",
    ),
    click.option("--background", metavar="NAME", help="Class of pixels without annotation; void ignores them."),
    click.option(
        "--images",
        default=DEFAULT_IMAGES,
        callback=_parse_place,
        metavar="P",
        help="Folder of the images, or a pattern such as images/{subset}/{name}_rgb.jpg.",
    ),
    click.option(
        "--masks",
        default=DEFAULT_MASKS,
        callback=_parse_place,
        metavar="P",
        help="Folder of the masks, or a pattern such as {name}_mask.png.",
    ),
)
"""Options on the format and the labels of a dataset, of `data` and of `new`."""
_DATASET_OPTIONS = (
    click.argument("source", metavar="ROOT|FILE.seg"),
    *LABEL_OPTIONS,
    click.option(
        "--subset", "subsets", multiple=True, metavar="S", help="Subset to read (repeatable); all if omitted."
    ),
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
class LabelOptions:
    """What a command line says about format and labels of a dataset: the options of :data:`LABEL_OPTIONS`."""

    format: str = DEFAULT_FORMAT
    ignore: int = DEFAULT_IGNORE
    classes: tuple[str, ...] = ()
    class_list: str | None = None
    values: tuple[Range, ...] | None = None
    background: str | None = None
    images: str = DEFAULT_IMAGES
    masks: str = DEFAULT_MASKS

    @property
    def names(self) -> tuple[str, ...]:
        """The class names, of either option."""
        if self.classes and self.class_list:
            raise click.UsageError("Give either --class for each class, or --classes.")
        return self.classes or tuple(name.strip() for name in (self.class_list or "").split(",") if name.strip())

    def make_request(self, subsets: tuple[str, ...]) -> Request:
        """Return the request for the data reader; no subsets stand for all."""
        from segdsl.data.decode.images import ReadOptions
        from segdsl.data.formats.layout import Request, parse_patterns

        return Request(
            subsets or None, self.ignore, self.names or None, self.background, self.values,
            # Any number of channels: no model says how many it takes.
            patterns=parse_patterns(self.images, self.masks), read_options=ReadOptions(None),
        )  # fmt: skip


def split_label_options(options: dict[str, Any]) -> LabelOptions:
    """Take the options of :data:`LABEL_OPTIONS` out of ``options``."""
    return LabelOptions(**{field.name: options.pop(field.name) for field in fields(LabelOptions)})


def resolve_data_source(
    source: str, subsets: tuple[str, ...], root: str | None, overrides: tuple[str, ...], **options: Any
) -> DataSource:
    """Resolve the dataset that a command line names.

    Raises SegError where the program does not load, and UsageError for options that cannot be combined.
    """
    asked = split_label_options(options)
    if not source.endswith(".seg"):
        if root is not None or overrides:
            raise click.UsageError("--data and --set need a program: segdsl data check FILE.seg --data ROOT.")
        return DataSource(Path(source), asked.format, asked.make_request(subsets))
    # Options that a program also has would compete with it; `--set` is the one way to override a program.
    if asked != LabelOptions():
        raise click.UsageError("With a program, use --set to change format, classes, background or ignore value.")
    return _resolve_program_data(source, root, overrides, subsets)


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
