"""Making the program of a data set: look, measure, decide, check, write."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from segdsl.data.check.checker import Progress
from segdsl.data.decode.images import Reading
from segdsl.data.formats.layout import Request
from segdsl.data.formats.registry import read_layout
from segdsl.data.stats.survey import survey
from segdsl.diagnostics import Diagnostic, SegError, fail
from segdsl.recipe.facts import SetFacts, facts_of
from segdsl.recipe.machine import Machine, this_machine
from segdsl.recipe.plan import Plan, plan
from segdsl.recipe.program import Recipe, recipe
from segdsl.recipe.subsets import two_subsets

ENDING = ".seg"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for: the data set and how it is read; ``subsets`` are one to learn from and one to score on, empty
    where their names tell; ``model`` is a name of the library, None where the data decides."""

    root: Path
    format: str = "auto"
    ignore: int = 255
    classes: tuple[str, ...] = ()
    background: str | None = None
    subsets: tuple[str, ...] = ()
    model: str | None = None

    def request(self, subsets: tuple[str, ...] | None) -> Request:
        """What is asked of the data set, for these subsets; None: all."""
        reading = Reading(None)  # the model takes as many channels as there are
        return Request(subsets, self.ignore, self.classes or None, self.background, reading=reading)


@dataclass(frozen=True, slots=True)
class Created:
    """A program that was written, what it was made from, and the warnings of the data check."""

    file: Path
    recipe: Recipe
    plan: Plan
    facts: SetFacts
    warnings: tuple[Diagnostic, ...]


def create(file: Path, wanted: Wanted, machine: Machine | None = None, progress: Progress | None = None) -> Created:
    """Writes the program for a data set into a new file.

    Raises :class:`SegError` with what is at fault: the place of the file (`program-exists`, `program-ending`,
    `program-not-written`), the subsets (`subset-single`, `subset-unclear`), its classes
    (`too-few-classes`), or what the data check finds.
    """
    require_new(file)
    place = seen_from(file.parent, wanted.root)
    train, val = subsets_of(wanted)
    found = survey(wanted.root, wanted.format, wanted.request((train, val)), progress)
    found.report.require()
    if len(found.classes) < 2:
        help = "name what is around it as well; where annotations are drawn, `--background NAME` does"
        raise fail("too-few-classes", "a segmentation needs two classes, got 1", help, path=str(wanted.root))
    facts = facts_of(found, train, val)
    decided = plan(facts, machine or this_machine(), wanted.model)
    made = recipe(facts, decided, place)
    require_sound(made.text, file)
    write_new(file, made.text)
    return Created(file, made, decided, facts, tuple(found.report.warnings))


def require_new(file: Path) -> None:
    """Refuses a file that exists, or that is no program by its name."""
    if os.path.lexists(file):
        what = "folder" if file.is_dir() else "file"
        message = f"the {what} exists, and is not overwritten"
        raise fail("program-exists", message, "name another file, or move this one away", path=str(file))
    if file.suffix != ENDING:
        message = f"a program is a file that ends in `{ENDING}`"
        raise fail("program-ending", message, f"name it `{file.with_suffix(ENDING)}`", path=str(file))


def subsets_of(wanted: Wanted) -> tuple[str, str]:
    """The subset to learn from and the one to score on."""
    if wanted.subsets:
        train, val = wanted.subsets
        return train, val
    layout = read_layout(wanted.root, wanted.format, wanted.request(None), [])
    return two_subsets(list(layout.subsets), layout.format, wanted.root)


def seen_from(folder: Path, root: Path) -> str:
    """The path of ``root`` from a folder that may not exist yet; the whole path where it lies on another drive.

    Raises :class:`SegError` for one that no text can hold.
    """
    there, here = os.path.realpath(root), os.path.realpath(folder)
    try:
        place = Path(os.path.relpath(there, here)).as_posix()
    except ValueError:
        place = Path(there).as_posix()
    if not place.isprintable():
        message = "the path of the data set has characters that no program can hold"
        raise fail("program-not-written", message, "rename its folders", path=str(root))
    return place


def require_sound(text: str, file: Path) -> None:
    """Holds a program to the same check as any other, before it is anywhere. An error in it is a bug of ours; what may
    be warned of is what was asked for, such as a void that is a class as well."""
    from segdsl.lang.program import check_file

    with TemporaryDirectory() as folder:
        draft = Path(folder, file.name)
        draft.write_text(text, encoding="utf-8")
        try:
            check_file(draft)
        except SegError as error:
            raise AssertionError(f"{error.diagnostics}\n{text}") from error


def write_new(file: Path, text: str) -> None:
    """Writes a file that is not there yet, whole or not at all."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(file, "xb") as stream:
            try:
                stream.write(text.encode("utf-8"))
                stream.flush()
            except OSError:
                file.unlink(missing_ok=True)
                raise
    except FileExistsError:
        require_new(file)
        raise _unwritten(file, "a file is in the way of its folder") from None
    except OSError as error:
        raise _unwritten(file, (error.strerror or "the system refuses it").lower()) from error


def _unwritten(file: Path, why: str) -> SegError:
    return fail("program-not-written", f"the program cannot be written: {why}", "name another file", path=str(file))
