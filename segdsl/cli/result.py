"""What a command answers, and the options that commands share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import click

from segdsl.diagnostics import Diagnostic

DONE, AT_FAULT, WRONG_USAGE, OUR_BUG, INTERRUPTED = 0, 1, 2, 70, 130
"""Exit statuses."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The object that `--json` prints, and the text that is printed without it.

    ``findings`` are printed as diagnostics on standard error, with the texts in ``sources``; ``as_json`` prints the
    object whatever the options say.
    """

    data: Mapping[str, Any]
    text: str = ""
    status: int = DONE
    findings: tuple[Diagnostic, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    as_json: bool = False


Command = Callable[..., Answer]

json_option = click.option(
    "--json", "json", is_flag=True, expose_value=False, help="Print one JSON object on stdout, all else on stderr."
)
device_option = click.option(
    "--device", default="auto", show_default=True, metavar="NAME", help="cpu, cuda, cuda:1, xpu, mps or auto."
)
set_option = click.option(
    "--set", "overrides", multiple=True, metavar="PATH=VALUE", help="Change the program; any number of times."
)
