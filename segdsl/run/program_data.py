"""Locating, opening and checking the data of a program."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from segdsl.data.check.checker import CheckReport, ProgressCallback, check_data
from segdsl.data.check.index import Index, explain_single_class, open_index
from segdsl.data.formats.layout import Request
from segdsl.data.loading.program_findings import check_monitor_class_present, find_program_issues
from segdsl.diagnostics import SegError, fail
from segdsl.ir.program import Program
from segdsl.lang.program import ParsedProgram, elaborate_program, parse_program
from segdsl.lang.resolve import move_program
from segdsl.lang.settings.overrides import Override, list_overrides
from segdsl.weights.sources import collect_weight_requests


def get_data_root(program: Program, data: str | Path | None = None) -> Path:
    """Return the folder of the data: ``data`` as it is, else `data.root` relative to the program's file.

    Raises SegError (`data-root-unset`) if neither is set.
    """
    if data is not None:
        return Path(data)
    if program.data.root is None:
        raise fail(
            "data-root-unset",
            "the program does not set `data.root`, the folder of its data",
            'set `data.root = "folder"` in the program, or pass `--data FOLDER`',
        )
    return get_program_file(program).parent / program.data.root


def get_program_file(program: Program) -> Path:
    """Return the file that a program was loaded from."""
    return Path(next(iter(program.sources)))


def open_data(program: Program, data: str | Path | None = None, subsets: Sequence[str] = ()) -> Index:
    """Open the index of a program's data, by default of its training and validation subsets."""
    names = subsets or (program.data.train.subset, program.data.val.subset)
    root, settings = get_data_root(program, data), program.data
    return open_index(root, settings.format, Request.from_program(program, names))


def find_dataset_classes(
    path: str | Path, overrides: Iterable[Override] = (), data: str | Path | None = None
) -> tuple[str, ...] | None:
    """Return the classes of a program's dataset.

    None if the program names its classes itself, or if its data is missing and ``data`` is not given. Raises SegError
    as loading and opening do.
    """
    program = elaborate_program(parse_program(path), overrides, resolve=False)
    if not program.assumed_classes or (data is None and not _has_data(program)):
        return None
    return _read_classes(program, data)


def _read_classes(program: Program, data: str | Path | None) -> tuple[str, ...]:
    # `exclude` and `remap` are checked later, when the program is elaborated with these names: then errors have spans.
    plain = program.data.model_copy(update={"exclude": (), "remap": ()})
    index = open_data(program.model_copy(update={"data": plain}), data)
    if len(index.classes) == 1:
        raise SegError([explain_single_class(index)])
    return tuple(index.classes)


def _has_data(program: Program) -> bool:
    return program.data.root is not None and get_data_root(program).is_dir()


def resolve_classes(
    program: str | Path | ParsedProgram,
    overrides: Iterable[Override] = (),
    data: str | Path | None = None,
) -> Program:
    """Return a program with the classes of its dataset if it names none. Its resolved text is not rendered.

    ``program`` is its file, or the program parsed. Raises SegError as loading and opening do.
    """
    parsed = program if isinstance(program, ParsedProgram) else parse_program(program)
    overrides = list_overrides(overrides)
    checked = elaborate_program(parsed, overrides, resolve=False)
    if not checked.assumed_classes:
        return checked
    return elaborate_program(parsed, [*overrides, ("data.classes", _read_classes(checked, data))], resolve=False)


def open_checked_data(
    program: Program, data: str | Path | None = None, progress: ProgressCallback | None = None
) -> tuple[Index, CheckReport]:
    """Return the index of a program's data and the report on checking every file.

    Raises SegError with the errors found, and with `classes-unknown`.
    """
    index = open_data(program, data)
    if program.assumed_classes:
        raise fail(
            "classes-unknown",
            "the program does not name its classes and was loaded without those of its dataset",
            "list them in `data.classes`, or train from the file: `segdsl train FILE`",
            path=str(index.root),
        )
    report = check_data(index.root, index.format, Request.from_program(program, tuple(index.subsets)), progress)
    report.add_findings(check_monitor_class_present(program, report))
    # Errors end the run here; only a program without any is worth checking for doubtful settings.
    report.raise_errors()
    report.add_findings(find_program_issues(program, report))
    return index, report


def collect_weight_sources(folder: Path, program: Program, weights: str | None) -> dict[str, str]:
    """Return the source of weights of each part of the model, as a program in ``folder`` names it.

    ``weights`` replaces the sources of the program.
    """
    sources = {request.part or "model": request for request in collect_weight_requests(program, weights)}
    # The parts of the program keep their order, so that its text stays the same when nothing moves.
    order = [*(part for part in program.weights if part in sources), *(p for p in sources if p not in program.weights)]
    return {
        part: request.source.text if request.source.is_remote else make_relative_path(folder, request.file_path)
        for part, request in ((part, sources[part]) for part in order)
    }


def move_into_run(
    program: Program, folder: Path, data: str | Path | None, form: str, weights: Mapping[str, str]
) -> Program:
    """Return the program as it is written into a run folder: with the dataset ``data`` in format ``form``.

    ``weights`` are its sources of weights, see :func:`collect_weight_sources`.
    """
    root = make_relative_path(folder, get_data_root(program, data))
    return move_program(program, folder / "program.seg", {"root": root, "format": form}, weights)


def make_relative_path(folder: Path, path: Path) -> str:
    """Return a path relative to a folder."""
    place, target = folder.resolve(), path.resolve()
    try:
        # Behind a symbolic link, `..` leads to the parent of the link's target; such paths are rebuilt from the real
        # ones.
        short = os.path.relpath(path, folder)
        if (place / short).resolve() != target:
            short = os.path.relpath(target, place)
        return Path(short).as_posix()
    except ValueError:  # another drive on Windows
        return path.absolute().as_posix()
