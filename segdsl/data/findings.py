"""Dataset diagnostics: one constructor for all of them, and the checks of symbolic links."""

from __future__ import annotations

import os
from pathlib import Path

from segdsl.diagnostics import Diagnostic, Setting, Severity

Findings = list[Diagnostic]


def make_finding(
    slug: str, message: str, help: str, path: Path, severity: Severity = "error", settings: tuple[Setting, ...] = ()
) -> Diagnostic:
    return Diagnostic(slug, message, help, path=str(path), severity=severity, settings=settings)


def check_link(path: Path, root: Path, findings: Findings) -> bool:
    """Return whether the link at ``path`` has an existing target.

    Append an error to ``findings`` for a dangling link, and a warning for a link whose target is outside ``root``.
    """
    try:
        target: Path | None = path.resolve()
        holds = target.exists()
    except (OSError, RuntimeError):
        # Path.resolve raises RuntimeError for a link that points to itself, directly or through other links.
        target, holds = None, False
    if target is None or not holds:
        message = (
            f"the link points to `{_read_link_target(path)}`, which does not exist"
            if target
            else "the link points to itself"
        )
        findings.append(make_finding("data-file-missing", message, "fix the link, or remove it", path))
        return False
    if not target.is_relative_to(root.resolve()):
        message = f"the link points outside the dataset, to `{_read_link_target(path)}`"
        help = "copy the file into the dataset, so that the dataset can be moved and archived as a whole"
        findings.append(make_finding("data-link-outside", message, help, path, severity="warning"))
    return True


def _read_link_target(path: Path) -> str:
    """Return the link's target as written; the full target path when a parent folder is the link."""
    try:
        # Not Path.readlink: a Path normalizes the target, and the user must recognize what they wrote.
        return os.readlink(path)  # noqa: PTH115
    except OSError:
        return str(path.resolve())
