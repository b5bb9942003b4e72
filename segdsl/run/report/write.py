"""Making the report of a run, and putting it into the run's folder."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from segdsl.diagnostics import SegError, fail
from segdsl.run.console.display import Display
from segdsl.run.engine.machine_faults import explained
from segdsl.run.folder.layout import RunFolder
from segdsl.run.report.page import page
from segdsl.run.report.run_data import gather


class Written(NamedTuple):
    """Where a report lies, and why it lacks what it does; empty for one that has all."""

    path: Path
    missing: str


def report_at_end(folder: RunFolder, display: Display) -> Path | None:
    """Writes the report of a run that has just ended; None where that fails, which is said and is no fault of the run:
    its weights are safe."""
    try:
        with display.reporting(), explained():
            return write_report(folder.root).path
    except SegError as error:
        display.note(f"there is no report: {error.diagnostics[0].message}")
        return None


def write_report(root: str | Path, data: str | Path | None = None) -> Written:
    """Writes `report.html` into the run folder ``root``, whole or not at all.

    The best weights are scored once on the validation subset of the run, in ``data`` or where the run says that its
    data lies; what cannot be had (no data, no checkpoint yet) is said in the report. Raises SegError (`run-not-found`,
    `report-not-written`, and what the program is at fault for).
    """
    material = gather(root, data)
    text, out = page(material), material.folder.report
    draft = out.with_name(f".{out.name}.part")
    try:
        try:
            draft.write_text(text, encoding="utf-8")
            draft.replace(out)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise _refused(out, error) from error
    return Written(out, material.missing)


def _refused(out: Path, error: OSError) -> SegError:
    """The fault of a report that cannot be written where it belongs: there is no other place to name."""
    if out.is_dir():
        message = f"`{out}` cannot be written: it is a folder"
        return fail("report-not-written", message, "rename or delete that folder", path=str(out))
    message = f"`{out.name}` cannot be written into `{out.parent}`: {(error.strerror or 'it is refused').lower()}"
    help = "see that you may write into this folder and that the disk has room"
    return fail("report-not-written", message, f"{help}, then run `segdsl report {out.parent}`", path=str(out))
