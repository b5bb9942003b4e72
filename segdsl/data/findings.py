"""What is found of a data set: diagnostics that name a file, and those of links."""

from __future__ import annotations

import os
from pathlib import Path

from segdsl.diagnostics import Diagnostic, Severity

Findings = list[Diagnostic]


def finding(slug: str, message: str, help: str, path: Path, severity: Severity = "error") -> Diagnostic:
    return Diagnostic(slug, message, help, path=str(path), severity=severity)


def link_holds(path: Path, root: Path, found: Findings) -> bool:
    """Whether the link leads to something; reports one that does not, and one that leads out of the data set."""
    try:
        target: Path | None = path.resolve()
        holds = target.exists()
    except (OSError, RuntimeError):
        target, holds = None, False
    if target is None or not holds:
        message = (
            f"the link points to `{_link_of(path)}`, which does not exist" if target else "the link leads in a circle"
        )
        found.append(finding("data-file-missing", message, "repair the link, or remove it", path))
        return False
    if not target.is_relative_to(root.resolve()):
        message = f"the link leaves the data set: it points to `{_link_of(path)}`"
        help = "copy the file into the data set, so that it can be moved and archived as one"
        found.append(finding("data-link-outside", message, help, path, severity="warning"))
    return True


def _link_of(path: Path) -> str:
    """What a link says; where a folder on the way is the link, what it leads to."""
    try:
        return os.readlink(path)  # noqa: PTH115 - a Path would tidy up what the link says
    except OSError:
        return str(path.resolve())
