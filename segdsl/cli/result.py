"""The result of a command, exit statuses, and the options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import click

from segdsl.diagnostics import Diagnostic

# 1 and 2 as in grep and argparse; 70 is EX_SOFTWARE of sysexits.h; 130 is a shell's status for SIGINT.
EXIT_OK, EXIT_ERROR, EXIT_USAGE, EXIT_BUG, EXIT_INTERRUPTED = 0, 1, 2, 70, 130
"""Exit statuses: success, invalid input, wrong usage, a bug in segdsl, interrupted."""


@dataclass(frozen=True, slots=True)
class CommandResult:
    """What a command prints: ``data`` with `--json`, ``text`` without it.

    ``findings`` are printed as diagnostics on standard error, quoting ``sources`` (file contents by name).
    ``is_json_only`` prints ``data`` even without `--json`.
    """

    data: Mapping[str, Any]
    text: str = ""
    status: int = EXIT_OK
    findings: tuple[Diagnostic, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    is_json_only: bool = False


CommandFunction = Callable[..., CommandResult]

json_option = click.option(
    "--json",
    "json",
    is_flag=True,
    expose_value=False,
    help="Print one JSON object to stdout and everything else to stderr.",
)
device_option = click.option(
    "--device", default="auto", show_default=True, metavar="NAME", help="Device: cpu, cuda, cuda:1, xpu, mps or auto."
)
set_option = click.option(
    "--set", "overrides", multiple=True, metavar="PATH=VALUE", help="Override a setting (repeatable)."
)
