"""Where the data of a program lies, and how it is opened and checked."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from segdsl.data.check.checker import CheckReport, Progress, check_data
from segdsl.data.check.index import Index, open_index
from segdsl.data.formats.layout import Request
from segdsl.data.loading.program_findings import doubts, unseen_monitor
from segdsl.diagnostics import fail
from segdsl.ir.program import Program
from segdsl.ir.values import quoted
from segdsl.lang.program import load
from segdsl.weights.sources import wanted_weights


def data_root(program: Program, data: str | Path | None = None) -> Path:
    """The folder of the data: ``data`` as it is, else `data.root` relative to the program's file.

    Raises SegError (`data-root-unset`) when neither is given.
    """
    if data is not None:
        return Path(data)
    if program.data.root is None:
        raise fail(
            "data-root-unset",
            "the program does not say where its data lies",
            'set `data.root = "folder"` in the program, or give `--data FOLDER`',
        )
    return program_file(program).parent / program.data.root


def program_file(program: Program) -> Path:
    """The file that a program was loaded from."""
    return Path(next(iter(program.sources)))


def open_data(program: Program, data: str | Path | None = None, subsets: Sequence[str] = ()) -> Index:
    """The index of a program's data, by default of its training and validation subsets."""
    wanted = subsets or (program.data.train.subset, program.data.val.subset)
    root, settings = data_root(program, data), program.data
    return open_index(root, settings.format, Request.of(program, wanted))


def classes_setting(path: str | Path, overrides: Iterable[str] = (), data: str | Path | None = None) -> list[str]:
    """The override that names the classes of a program as its data set does; none where the program names them, or
    where its data is not there and ``data`` names no other.

    Raises SegError as loading and opening do.
    """
    program = load(path, overrides)
    if not program.assumed_classes or (data is None and not _has_data(program)):
        return []
    return [_named_classes(program, data)]


def _named_classes(program: Program, data: str | Path | None) -> str:
    # What the program makes of the classes is checked when it is loaded with their names: there it has spans.
    plain = program.data.model_copy(update={"exclude": (), "remap": ()})
    index = open_data(program.model_copy(update={"data": plain}), data)
    if len(index.classes) == 1:
        message = f"the data set has the class `{index.classes[0]}` alone, and a segmentation needs two"
        help = "name what is not it: `data.background`, where masks are drawn, or a second class of the masks"
        raise fail("too-few-classes", message, help, path=str(index.root))
    return f"data.classes=[{', '.join(quoted(name) for name in index.classes)}]"


def _has_data(program: Program) -> bool:
    return program.data.root is not None and data_root(program).is_dir()


def resolve_classes(path: str | Path, overrides: Iterable[str] = (), data: str | Path | None = None) -> Program:
    """The program of a file, with the classes of its data set where it names none.

    The names become an override, so that the resolved program states them. Raises SegError as loading and opening do.
    """
    overrides = list(overrides)
    program = load(path, overrides)
    if not program.assumed_classes:
        return program
    return load(path, [*overrides, _named_classes(program, data)])


def checked_data(
    program: Program, data: str | Path | None = None, progress: Progress | None = None
) -> tuple[Index, CheckReport]:
    """The index of a program's data after every file was looked at, and what was found.

    Raises SegError with what is at fault (beside the findings of the check `classes-unknown`).
    """
    index = open_data(program, data)
    if program.assumed_classes:
        raise fail(
            "classes-unknown",
            "the program does not name its classes, and was loaded without those of its data",
            "name them in `data.classes`, or train from the file: `segdsl train FILE`",
            path=str(index.root),
        )
    report = check_data(index.root, index.format, Request.of(program, tuple(index.subsets)), progress)
    report.add(unseen_monitor(program, report))
    report.require()
    report.add(doubts(program, report))
    return index, report


def settings_seen_from(folder: Path, program: Program, data: str | Path | None, weights: str | None) -> list[str]:
    """Overrides that make ``program`` mean the same data and weights when it lies in ``folder``."""
    overrides = [f"data.root={quoted(seen_from(folder, data_root(program, data)))}"]
    sources = {wanted.part or "model": wanted for wanted in wanted_weights(program, weights)}
    overrides += [f"drop weights.{part}" for part in program.weights if part not in sources]
    for part, wanted in sources.items():
        text = wanted.source.text if wanted.source.is_remote else seen_from(folder, wanted.file)
        overrides.append(f"weights.{part}={quoted(text)}")
    return overrides


def seen_from(folder: Path, path: Path) -> str:
    """A path relative to a folder. Where one of them is reached by a link, `..` leads out of what that leads to."""
    place, target = folder.resolve(), path.resolve()
    try:
        short = os.path.relpath(path, folder)
        if (place / short).resolve() != target:
            short = os.path.relpath(target, place)
        return Path(short).as_posix()
    except ValueError:  # another drive
        return path.absolute().as_posix()
