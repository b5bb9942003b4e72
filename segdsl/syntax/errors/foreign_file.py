"""Files in another language: recognized as a whole, since an error for each of their lines would help nobody."""

from __future__ import annotations

import re

from segdsl.diagnostics import Diagnostic, Span

NEW_PROGRAM_HELP = (
    "programs have a language of their own; `segdsl new my.seg --data FOLDER` writes one for a dataset, and "
    "`segdsl check my.seg` says what to call a setting of another tool"
)
YAML_LINE = re.compile(r"\s*(- )?['\"]?[\w.$/-]+['\"]?:(\s|$)|\s*- \S|---$")
PYTHON_LINE = re.compile(
    r"(import [\w.]+( as \w+)?(, *[\w.]+)*|from [\w.]+ import \S.*|def \w+\(.*\).*:|class \w+.*:|_base_ = .*"
    r"|if __name__ == .*|\w+ = dict\(.*)$"
)
MIN_LINES = 2
"""Lines that a file must have to be recognized by their form."""


def recognize_foreign_file(text: str, name: str) -> Diagnostic | None:
    """Return the error for a text in YAML, JSON or Python that does not parse; None for anything else."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    language = _recognize_language(lines, text.lstrip())
    if not language:
        return None
    start = len(text) - len(text.lstrip())
    span = Span(name, start, start + len(text[start:].splitlines()[0].rstrip()))
    return Diagnostic("foreign-file", f"this is {language}, not a program", NEW_PROGRAM_HELP, span=span)


def _recognize_language(lines: list[str], text: str) -> str:
    if not lines:
        return ""
    if re.match(r'[\[{]\s*("|\{|\[|$)', text) and text.rstrip()[-1:] in ("]", "}"):
        return "a JSON file"
    if len(lines) >= MIN_LINES and all(YAML_LINE.match(line) for line in lines):
        return "a YAML file"
    # With the version header, somebody has begun a program and slipped into Python: then each line is answered.
    if not re.match(r"seg\s+\d", lines[0]) and any(PYTHON_LINE.match(line) for line in lines):
        return "a Python file"
    return ""
