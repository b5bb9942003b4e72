"""Creation of a run's report in the run folder."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from segdsl.diagnostics import SegError, fail
from segdsl.ir.program import Program
from segdsl.run.console.display import Display
from segdsl.run.engine.machine_faults import diagnose_machine_faults
from segdsl.run.folder.layout import RunFolder
from segdsl.run.report.page import render_report
from segdsl.run.report.run_data import collect_run_data
from segdsl.storage.atomic import write_atomically


class ReportFile(NamedTuple):
    """The path of a report, and the reason why parts of it are missing; empty for a complete report."""

    path: Path
    missing: str


def write_final_report(folder: RunFolder, display: Display, program: Program) -> Path | None:
    """Write the report of a run that has just ended, with its ``program``.

    On failure, print a note and return None.
    """
    # The run itself succeeded and its weights are safe, so a failed report must not look like a failed run.
    try:
        with display.show_report_progress(), diagnose_machine_faults():
            return write_report(folder.root, program=program).path
    except SegError as error:
        display.show_note(f"the report could not be written: {error.diagnostics[0].message}")
        return None


def write_report(root: str | Path, data: str | Path | None = None, program: Program | None = None) -> ReportFile:
    """Write `report.html` into the run folder ``root``, atomically.

    Evaluates the best weights on the validation subset of the run, in the dataset folder ``data`` or that of the run.
    ``program`` is that of the run, if it is in memory; else it is read. If something is missing (dataset, checkpoint),
    the report says so. Raises SegError (`run-not-found`, `report-not-written`, and the errors of the program).
    """
    run = collect_run_data(root, data, program)
    text, out = render_report(run), run.folder.report
    try:
        write_atomically(out, text.encode())
    except OSError as error:
        raise _report_not_written_error(out, error) from error
    return ReportFile(out, run.missing)


def _report_not_written_error(out: Path, error: OSError) -> SegError:
    """Return the error for a report that cannot be written."""
    if out.is_dir():
        message = f"`{out}` cannot be written: it is a folder"
        return fail("report-not-written", message, "rename or delete that folder", path=str(out))
    message = f"`{out.name}` cannot be written into `{out.parent}`: {(error.strerror or 'access refused').lower()}"
    help = "check that the folder is writable and that the disk has free space"
    # A report has a fixed path in its run, so there is no other location to suggest.
    return fail("report-not-written", message, f"{help}, then run `segdsl report {out.parent}`", path=str(out))
