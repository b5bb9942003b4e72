"""What was asked of `train`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from segdsl.lang.settings.overrides import Override


class RunOptions(TypedDict, total=False):
    """The options of a run; see :class:`RunRequest`."""

    data: str | Path | None
    weights: str | None
    out: str | Path | None
    quiet: bool
    device: str
    resume: bool


@dataclass(frozen=True, slots=True)
class RunRequest:
    """A run that was asked for: the program in a `.seg` file, changes to it, and how to run it."""

    path: str | Path
    overrides: tuple[Override, ...] = ()
    data: str | Path | None = None
    """The dataset folder relative to the working directory, instead of `data.root`."""
    weights: str | None = None
    """A source of weights for the whole model; `"none"` starts from random ones."""
    out: str | Path | None = None
    """The run folder; without it the next free one in `runs`."""
    quiet: bool = False
    """Whether to print nothing."""
    device: str = "auto"
    """`cpu`, `cuda`, `cuda:1`, `xpu`, `mps`, or `auto`: the accelerator if there is one."""
    resume: bool = False
    """Whether to resume the run in ``out``; ``path`` may then be a run folder itself."""
