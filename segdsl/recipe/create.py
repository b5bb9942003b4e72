"""Creation of a program for a dataset: survey the data, choose, check the program, write it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from segdsl.data.check.checker import ProgressCallback
from segdsl.data.decode.images import ReadOptions
from segdsl.data.formats.layout import IMAGES, MASKS, Request, parse_patterns
from segdsl.data.formats.registry import read_layout
from segdsl.data.stats.survey import Survey, survey_dataset
from segdsl.diagnostics import Diagnostic, SegError, Setting, fail
from segdsl.ir.values import Range
from segdsl.recipe.choice import Choice
from segdsl.recipe.facts import DatasetFacts, collect_facts
from segdsl.recipe.machine import Machine, detect_machine
from segdsl.recipe.plan import Plan, make_plan
from segdsl.recipe.program import ProgramText, generate_program
from segdsl.recipe.subsets import pick_subsets
from segdsl.storage.atomic import create_atomically
from segdsl.text.listing import format_string

PROGRAM_SUFFIX = ".seg"


@dataclass(frozen=True, slots=True)
class ProgramRequest:
    """What the user asked for: the dataset and how to read it.

    ``subsets`` are the training and the validation subset, empty to choose them by name; ``model`` is a model of the
    library, None to choose it from the data. ``images`` and ``masks`` are written as in a program.
    """

    root: Path
    format: str = "auto"
    ignore: int = 255
    classes: tuple[str, ...] = ()
    background: str | None = None
    subsets: tuple[str, ...] = ()
    model: str | None = None
    values: tuple[Range, ...] | None = None
    images: str = IMAGES
    masks: str = MASKS
    levels: Range | None = None

    def make_data_request(self, subsets: tuple[str, ...] | None) -> Request:
        """Return the request for the data reader, for these subsets; None requests all."""
        return Request(
            subsets, self.ignore, self.classes or None, self.background, self.values,
            # Any number of channels: the model is generated with as many input channels as the images have.
            patterns=parse_patterns(self.images, self.masks), read_options=ReadOptions(None, self.levels),
        )  # fmt: skip

    def adopt_setting(self, setting: Setting) -> ProgramRequest:
        """Return the request with a setting of `data` that a check proposes."""
        return replace(self, **{setting.path.removeprefix("data."): parse_setting(setting)})

    def describe_settings(self, reasons: Mapping[str, str]) -> dict[str, Choice]:
        """Return the settings of `data` that differ from their defaults, by path, with the ``reasons`` for them."""
        texts = {
            "data.background": format_string(self.background or ""),
            "data.values": format_values(self.values or ()),
            "data.images": format_string(self.images),
            "data.masks": format_string(self.masks),
            "data.levels": str(self.levels),
        }
        given = {path: text for path, text in texts.items() if self.has_setting(path)}
        return {path: Choice(text, reasons.get(path, GIVEN_REASONS[path])) for path, text in given.items()}

    def has_setting(self, path: str) -> bool:
        """Return whether a setting of `data` differs from its default."""
        name = path.removeprefix("data.")
        return getattr(self, name) != getattr(ProgramRequest(self.root), name)


GIVEN_REASONS = {
    "data.background": "the class of pixels without an annotation, chosen on the command line",
    "data.values": "the mask values of the classes, chosen on the command line",
    "data.images": "where the images are, chosen on the command line",
    "data.masks": "where the masks are, chosen on the command line",
    "data.levels": "the values of black and white",
}
"""Reasons for settings that nothing but the user asked for."""
ADOPTED_REASONS = {
    "data.values": "the masks hold these values",
    "data.images": "images have this in addition to the names of their masks",
    "data.masks": "masks have this in addition to the names of their images",
    "data.levels": "the values in the images that become black and white",
}
"""Reasons for settings that a check of the data proposed."""


def parse_setting(setting: Setting) -> Any:
    """Return the value of a setting of `data` that a check proposes."""
    text = setting.value
    if setting.path == "data.levels":
        low, _, high = text.partition("..")
        return Range(float(low), float(high))
    if setting.path == "data.values":
        parts = [part.strip().partition("..") for part in text.strip("[]").split(",")]
        return tuple(Range(int(low), int(high or low)) for low, _, high in parts)
    value = json.loads(text) if text[:1] in ('"', "[") else text
    return tuple(value) if isinstance(value, list) else value


def format_values(values: Sequence[Range]) -> str:
    """Return mask values as they are written in a program: `[0, 128..255]`."""
    ends = [(int(entry.low), int(entry.high)) for entry in values]
    return "[" + ", ".join(str(low) if low == high else f"{low}..{high}" for low, high in ends) + "]"


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
    found, request, reasons = survey_as_needed(request, (train, val), progress)
    facts = collect_facts(found, train, val, request.describe_settings(reasons))
    decided = make_plan(facts, machine or detect_machine(), request.model)
    made = generate_program(facts, decided, place)
    require_valid_program(made.text, file)
    write_new_file(file, made.text)
    return ProgramResult(file, made, decided, facts, tuple(found.report.warnings))


def survey_as_needed(
    request: ProgramRequest, subsets: tuple[str, str], progress: ProgressCallback | None
) -> tuple[Survey, ProgramRequest, dict[str, str]]:
    """Survey the data with the settings that the check of the data proposes.

    Return the survey without errors, the request that has these settings, and the reasons for them. Raises
    :class:`SegError` for errors that no setting remedies.
    """
    reasons: dict[str, str] = {}
    while True:
        found = survey_dataset(request.root, request.format, request.make_data_request(subsets), progress)
        findings = (*found.report.errors, *found.report.warnings)
        # What the user has set stays, also where it is not what the data needs.
        offers = (d.settings for d in findings if d.settings)
        wanted = next((offer for offer in offers if not any(request.has_setting(s.path) for s in offer)), ())
        if not wanted:
            found.report.raise_errors()
            return found, request, reasons
        for setting in wanted:
            request = request.adopt_setting(setting)
            reasons[setting.path] = ADOPTED_REASONS.get(setting.path, "")


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
