"""Creation of a program for a dataset: survey the data, choose, check the program, write it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from segdsl.data.check.checker import ProgressCallback
from segdsl.data.decode.images import ReadOptions
from segdsl.data.formats.layout import Request
from segdsl.data.formats.registry import read_layout
from segdsl.data.stats.survey import survey_dataset
from segdsl.diagnostics import Diagnostic, SegError, fail
from segdsl.recipe.facts import DatasetFacts, collect_facts
from segdsl.recipe.machine import Machine, detect_machine
from segdsl.recipe.plan import Plan, make_plan
from segdsl.recipe.program import ProgramText, generate_program
from segdsl.recipe.subsets import pick_subsets
from segdsl.storage.atomic import create_atomically

PROGRAM_SUFFIX = ".seg"


@dataclass(frozen=True, slots=True)
class ProgramRequest:
    """What the user asked for: the dataset and how to read it.

    ``subsets`` are the training and the validation subset, empty to choose them by name; ``model`` is a model of the
    library, None to choose it from the data.
    """

    root: Path
    format: str = "auto"
    ignore: int = 255
    classes: tuple[str, ...] = ()
    background: str | None = None
    subsets: tuple[str, ...] = ()
    model: str | None = None

    def make_data_request(self, subsets: tuple[str, ...] | None) -> Request:
        """Return the request for the data reader, for these subsets; None requests all."""
        # Any number of channels: the model is generated with as many input channels as the images have.
        reading = ReadOptions(None)
        return Request(subsets, self.ignore, self.classes or None, self.background, read_options=reading)


@dataclass(frozen=True, slots=True)
class ProgramResult:
    """A new program file, what it was made from, and the warnings of the data check."""

    file: Path
    program: ProgramText
    plan: Plan
    facts: DatasetFacts
    warnings: tuple[Diagnostic, ...]


def create_program(
    file: Path, request: ProgramRequest, machine: Machine | None = None, progress: ProgressCallback | None = None
) -> ProgramResult:
    """Write a program for a dataset into a new file.

    Raises :class:`SegError` for the target file (`program-exists`, `program-ending`, `program-not-written`), the
    subsets (`subset-single`, `subset-unclear`), the classes (`too-few-classes`), or the findings of the data check.
    """
    require_new_file(file)
    place = make_relative_path(file.parent, request.root)
    train, val = choose_subsets(request)
    found = survey_dataset(request.root, request.format, request.make_data_request((train, val)), progress)
    found.report.raise_errors()
    if len(found.classes) < 2:
        help = "add a class for the pixels around it; for annotations with shapes, pass `--background NAME`"
        raise fail("too-few-classes", "a segmentation needs two classes, got 1", help, path=str(request.root))
    facts = collect_facts(found, train, val)
    decided = make_plan(facts, machine or detect_machine(), request.model)
    made = generate_program(facts, decided, place)
    require_valid_program(made.text, file)
    write_new_file(file, made.text)
    return ProgramResult(file, made, decided, facts, tuple(found.report.warnings))


def require_new_file(file: Path) -> None:
    """Raise :class:`SegError` if the file exists or does not end in `.seg`."""
    if os.path.lexists(file):
        what = "folder" if file.is_dir() else "file"
        message = f"the {what} already exists and is not overwritten"
        raise fail("program-exists", message, f"choose another file name, or move this {what}", path=str(file))
    if file.suffix != PROGRAM_SUFFIX:
        message = f"the name of a program must end in `{PROGRAM_SUFFIX}`"
        raise fail("program-ending", message, f"name it `{file.with_suffix(PROGRAM_SUFFIX)}`", path=str(file))


def choose_subsets(request: ProgramRequest) -> tuple[str, str]:
    """Return the training and the validation subset."""
    if request.subsets:
        train, val = request.subsets
        return train, val
    layout = read_layout(request.root, request.format, request.make_data_request(None), [])
    return pick_subsets(list(layout.subsets), layout.format.split_help, request.root)


def make_relative_path(folder: Path, root: Path) -> str:
    """Return the path of ``root`` relative to a folder that may not exist yet; absolute if it is on another drive.

    Raises :class:`SegError` for a path that cannot be written in a program.
    """
    target, start = os.path.realpath(root), os.path.realpath(folder)
    try:
        path = Path(os.path.relpath(target, start)).as_posix()
    except ValueError:
        # On Windows no relative path leads from one drive to another.
        path = Path(target).as_posix()
    if not path.isprintable():
        message = "the path of the dataset contains characters that cannot be written in a program"
        raise fail("program-not-written", message, "rename its folders", path=str(root))
    return path


def require_valid_program(text: str, file: Path) -> None:
    """Check a generated program before it is written. An error in it is a bug in segdsl.

    Warnings are allowed: they concern what the user asked for, such as an ignore value that is also a class.
    """
    from segdsl.lang.program import check_file

    try:
        check_file(file, text=text)
    except SegError as error:
        raise AssertionError(f"{error.diagnostics}\n{text}") from error


def write_new_file(file: Path, text: str) -> None:
    """Write a file that must not exist yet, completely or not at all."""
    try:
        create_atomically(file, text.encode("utf-8"))
    except FileExistsError:
        require_new_file(file)
        raise _make_write_error(file, "its folder is a file") from None
    except OSError as error:
        raise _make_write_error(file, (error.strerror or "refused by the operating system").lower()) from error


def _make_write_error(file: Path, reason: str) -> SegError:
    return fail("program-not-written", f"cannot write the program: {reason}", "choose another file", path=str(file))
